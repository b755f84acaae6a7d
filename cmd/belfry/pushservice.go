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
Firefox or Chromium work together without a network, and it is stricter than they
are. It prints how to start all three against it.`}
	var cfg pushtest.Config
	c.Flags().StringVar(&cfg.Listen, "listen", "127.0.0.1:8090", "`HOST:PORT` to listen on, of this machine")
	c.Flags().StringVar(&cfg.ListenTLS, "listen-tls", "127.0.0.1:0", "`HOST:PORT` for Chromium, which wants TLS; port 0 is any that is free")
	c.Flags().BoolVar(&cfg.TLS, "tls", false, "serve HTTPS and HTTP/2 at --listen, for all but Firefox")
	c.Flags().StringVar(&cfg.Dir, "dir", "", "keep browsers, subscriptions, waiting messages and the authority in `DIR` over a restart")
	ca := c.Flags().String("ca-out", "belfry-push-ca.pem", "write the certificate authority, which belfry must trust, to `FILE`")
	noClient(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if cfg.TLS && c.Flags().Changed("listen-tls") {
			return wrongUsage(c, fmt.Errorf("--listen-tls is for Chromium where --listen has no TLS; with --tls, it uses --listen"))
		}
		for name, address := range map[string]string{"--listen": cfg.Listen, "--listen-tls": cfg.ListenTLS} {
			if host, _, err := net.SplitHostPort(address); err != nil || !config.Loopback(host) {
				return wrongUsage(c, fmt.Errorf("%s must be a loopback address and a port, not %+q: it shows everything to whoever reaches it", name, address))
			}
		}
		return a.pushservice(c.Context(), cfg, *ca)
	}
	return c
}

func (a *app) pushservice(ctx context.Context, cfg pushtest.Config, ca string) error {
	s, err := pushtest.Start(cfg)
	if errors.Is(err, pushtest.ErrListenTLS) {
		return listenError("--listen-tls", cfg.ListenTLS, err)
	} else if _, ok := errors.AsType[*net.OpError](err); ok {
		return listenError("--listen", cfg.Listen, err)
	} else if err != nil {
		return err
	}
	defer s.Close()
	if err := os.WriteFile(ca, s.CA(), 0o644); err != nil {
		return err
	}
	serve := []string{"belfry", "serve", "--push-ca", ca}
	for _, host := range s.PushHosts() {
		serve = append(serve, "--push-host", host)
	}
	if a.json {
		out := map[string]any{"url": s.URL(), "pushHosts": s.PushHosts(), "pushCA": ca, "serve": serve,
			"chromiumPreferences": pushtest.ChromiumPreferences, "chromium": s.ChromiumCommand(chromiumProfile, demoPage)}
		if !cfg.TLS {
			out["firefoxPrefs"], out["firefox"] = pushtest.FirefoxPrefs(s.URL()), pushtest.FirefoxCommand(firefoxProfile, demoPage)
		}
		err = a.printJSON(out)
	} else {
		_, err = fmt.Fprint(a.out, introduction(s, cfg.TLS, serve))
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(a.err, "belfry: listening on %s\n", s.URL())
	<-ctx.Done()
	return s.Close()
}

const (
	firefoxProfile  = "./belfry-firefox"
	chromiumProfile = "./belfry-chromium"
	demoPage        = "http://127.0.0.1:8080/" // of belfry serve without flags
)

// introduction says how to start belfry and the browsers against the service.
func introduction(s *pushtest.Service, tls bool, serve []string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "A push service for development. Start belfry against it:\n\n%s\n\n", shell(serve))
	if tls {
		out.WriteString("Firefox cannot use it; for Firefox, run it without --tls.\n\n")
	} else {
		fmt.Fprintf(&out, "Firefox against it, with a profile of its own:\n\n  mkdir -p %s\n  cat >%s/user.js <<'END'\n", firefoxProfile, firefoxProfile)
		for _, line := range pushtest.FirefoxPrefs(s.URL()) {
			fmt.Fprintf(&out, "%s\n", line)
		}
		fmt.Fprintf(&out, "END\n%s\n\n", shell(pushtest.FirefoxCommand(firefoxProfile, demoPage)))
	}
	fmt.Fprintf(&out, "Chromium or Chrome against it, likewise:\n\n  mkdir -p %s/Default\n  echo '%s' >%s/Default/Preferences\n%s\n\n",
		chromiumProfile, pushtest.ChromiumPreferences, chromiumProfile, shell(s.ChromiumCommand(chromiumProfile, demoPage)))
	fmt.Fprintf(&out, "What it received:  %s/pushtest/summary\n                   %s/pushtest/ledger\n", s.URL(), s.URL())
	return out.String()
}

// shell writes a command as one pastes it, over several lines where it is long.
func shell(command []string) string {
	var out strings.Builder
	width := 0
	for i, word := range command {
		switch {
		case i == 0:
			out.WriteString("  ")
		case width+len(word) > 90 && strings.HasPrefix(word, "-"):
			out.WriteString(" \\\n    ")
			width = 0
		default:
			out.WriteString(" ")
		}
		out.WriteString(word)
		width += len(word) + 1
	}
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
