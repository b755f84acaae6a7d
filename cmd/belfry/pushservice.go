package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/config"
	"github.com/belfry-push/belfry/sender/pushtest"
)

func (a *app) pushserviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "pushservice", Short: "Run a push service on this machine, for development and tests", Args: args(cobra.NoArgs),
		Long: `Run a push service on this machine, for development and tests, until Ctrl-C.

It takes the place of the browser vendors' services, so that belfry and a stock
Firefox work together without a network, and it is stricter than they are. It
prints how to start both against it.`}
	var cfg pushtest.Config
	c.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:8090", "`HOST:PORT` to listen on, of this machine")
	c.Flags().BoolVar(&cfg.TLS, "tls", false, "serve HTTPS and HTTP/2, with a certificate authority made for this run")
	c.Flags().StringVar(&cfg.Dir, "dir", "", "keep browsers, subscriptions and waiting messages in `DIR` over a restart")
	ca := c.Flags().String("ca-out", "", "write the certificate authority to `FILE`, PEM; needs --tls")
	noClient(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if cfg.TLS != (*ca != "") {
			return wrongUsage(c, fmt.Errorf("--tls and --ca-out go together"))
		}
		if host, _, err := net.SplitHostPort(cfg.Listen); err != nil || !config.Loopback(host) {
			return wrongUsage(c, fmt.Errorf("--listen must be a loopback address and a port, not %+q: it shows everything to whoever reaches it", cfg.Listen))
		}
		return a.pushservice(c.Context(), cfg, *ca)
	}
	return c
}

func (a *app) pushservice(ctx context.Context, cfg pushtest.Config, ca string) error {
	s, err := pushtest.Start(cfg)
	if err != nil {
		return listenError("--listen", cfg.Listen, err)
	}
	defer s.Close()
	if ca != "" {
		if err := os.WriteFile(ca, s.CA(), 0o644); err != nil {
			return err
		}
	}
	serve := []string{"belfry", "serve", "--push-host", s.PushHost()}
	if ca != "" {
		serve = append(serve, "--push-ca", ca)
	}
	if a.json {
		err = a.printJSON(map[string]any{"url": s.URL(), "pushHost": s.PushHost(), "pushCA": ca, "serve": serve,
			"firefoxPrefs": pushtest.FirefoxPrefs(s.URL()), "firefox": pushtest.FirefoxCommand(firefoxProfile, demoPage)})
	} else {
		_, err = fmt.Fprint(a.out, introduction(s, cfg.TLS, strings.Join(serve, " ")))
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.err, "belfry: listening on %s\n", s.URL())
	<-ctx.Done()
	return s.Close()
}

const (
	firefoxProfile = "./belfry-firefox"
	demoPage       = "http://127.0.0.1:8080/" // of belfry serve without flags
)

// introduction says how to start belfry and Firefox against the service.
func introduction(s *pushtest.Service, tls bool, serve string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "A push service for development. Start belfry against it:\n\n  %s\n\n", serve)
	if tls {
		out.WriteString("Firefox does not know its certificate authority; for Firefox, run it without --tls.\n\n")
	} else {
		fmt.Fprintf(&out, "Firefox against it, with a profile of its own:\n\n  mkdir -p %s\n  cat >%s/user.js <<'END'\n", firefoxProfile, firefoxProfile)
		for _, line := range pushtest.FirefoxPrefs(s.URL()) {
			fmt.Fprintf(&out, "%s\n", line)
		}
		fmt.Fprintf(&out, "END\n  %s\n\n", strings.Join(pushtest.FirefoxCommand(firefoxProfile, demoPage), " "))
	}
	fmt.Fprintf(&out, "What it received:  %s/pushtest/summary\n                   %s/pushtest/ledger\n", s.URL(), s.URL())
	return out.String()
}

// listenError says who named an address that is taken.
func listenError(flag, address string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s %s: %w", flag, address, err)
	}
	return &belfry.Error{Kind: belfry.ErrBusy, Code: "listen", Where: flag, Text: address + " is in use by another program",
		Hint: "stop that one, or choose another port"}
}
