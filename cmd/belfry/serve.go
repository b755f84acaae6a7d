package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"os"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/config"
	"github.com/belfry-push/belfry/keys"
)

func (a *app) serveCommand() *cobra.Command {
	c := &cobra.Command{Use: "serve", Short: "Run the server", Args: args(cobra.NoArgs),
		Long: `Run the server until Ctrl-C or SIGTERM, which lets what is in flight finish.

Without flags it serves this machine alone, with a demo page to try. For a site:

  belfry serve --public-url https://ring.example.com --origin https://www.example.com \
               --subject mailto:ops@example.com --listen :443 --tls-cert FILE --tls-key FILE

Every flag can be given as BELFRY_ and its name in capitals, such as
BELFRY_PUBLIC_URL; lists are separated by commas, and a flag wins.`}
	read := config.ServeFlags(c.Flags())
	noClient(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		cfg, err := read()
		if err != nil {
			return exit{exitUsage, err}
		}
		cfg.Data = a.data.dir
		return a.serve(c.Context(), cfg)
	}
	return c
}

// ballast is octets of address space that nobody touches, so that they take no
// memory. The garbage collector begins when the heap has doubled, and without
// them that is every few hundred messages of a broadcast, since hardly anything
// of it stays. It was a fifth of a broadcast's CPU time. Twice as many make a
// broadcast cheaper by some hundredths, and a crowd that registers slower, since
// each uses fresh memory until a collection begins.
const ballast = 32 << 20

// serve runs until ctx ends. What the flags name is checked before anything is
// written.
func (a *app) serve(ctx context.Context, cfg config.Serve) (err error) {
	// net/http writes to the standard logger what a push service sent unasked, octet
	// for octet; that may echo our request, with the endpoint in it (SEC-22).
	stdlog.SetOutput(io.Discard)
	defer runtime.KeepAlive(make([]byte, ballast))
	h := &house{cfg: cfg, log: a.logger(cfg.LogLevel), ready: func(url string) { fmt.Fprintf(a.err, "belfry: listening on %s\n", url) }}
	// As soon as anybody but this machine is rung for, there must be a subject (WP-45).
	if cfg.Subject != "" || !cfg.Local() {
		if err := keys.CheckSubject(cfg.Subject); err != nil {
			return exit{exitUsage, err}
		}
	}
	if h.paths, err = config.PathsIn(cfg.Data); err != nil {
		return err
	}
	if h.roots, err = rootsWith("--push-ca", cfg.PushCA); err != nil {
		return err
	}
	if h.tls, err = certificate(cfg); err != nil {
		return err
	}
	defer h.close()
	if err := h.build(ctx); err != nil {
		return err
	}
	return h.run(ctx)
}

// logger writes text to a terminal and JSON to everything else.
func (a *app) logger(level string) *slog.Logger {
	var at slog.Level
	at.UnmarshalText([]byte(level)) // config has checked it
	options := &slog.HandlerOptions{Level: at}
	if f, ok := a.err.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return slog.New(slog.NewTextHandler(a.err, options))
	}
	return slog.New(slog.NewJSONHandler(a.err, options))
}

// certificate reads the server's own certificate; nil without one.
func certificate(cfg config.Serve) (*tls.Config, error) {
	if cfg.TLSCert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, &belfry.Error{Kind: belfry.ErrNotUsable, Code: "certificate", Where: "--tls-cert and --tls-key", Text: err.Error(),
			Hint: "give the certificate chain and its private key, both PEM"}
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// rootsWith returns the system's authorities and those in file, which flag
// names, or nil for the system's alone.
func rootsWith(flag, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, belfry.Invalid("usage", flag, file+" holds no certificate in PEM")
	}
	return pool, nil
}
