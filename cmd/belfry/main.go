// Command belfry rings for websites: `belfry serve` registers visitors and
// broadcasts to them, and every other command talks to the running server.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks, the second one ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdin, os.Stdout, os.Stderr))
}

// Exit codes, from docs/protocol.md.
const (
	exitFailed    = 1
	exitUsage     = 2
	exitSomeFail  = 3 // a broadcast ended with failed > 0
	exitCancelled = 4 // a broadcast was cancelled
)

// An exit is an error that ends the process with a code of its own. An exit
// without an error says nothing: its command has told all.
type exit struct {
	code int
	err  error
}

func (e exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}
func (e exit) Unwrap() error { return e.err }

// An app is one run of the program: what came from outside, and the flags that
// every command has.
type app struct {
	getenv        func(string) string
	in            io.Reader
	out, err      io.Writer
	data          dataFlag
	server, token string
	json          bool
	caFile        string
}

// run is the program without its process. stdout holds what was asked for,
// stderr the rest.
func run(ctx context.Context, args []string, getenv func(string) string, in io.Reader, out, errs io.Writer) int {
	a := &app{getenv: getenv, in: in, out: out, err: errs}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	return a.explain(root.ExecuteContext(ctx))
}

// explain prints what went wrong and the way out, and returns the exit code.
func (a *app) explain(err error) int {
	if err == nil {
		return 0
	}
	code := exitFailed
	var e exit
	if errors.As(err, &e) {
		code = e.code
		if e.err == nil {
			return code
		}
	}
	text := err.Error()
	if errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	fmt.Fprintf(a.err, "belfry: %s\n", text)
	var told *belfry.Error
	if errors.As(err, &told) {
		if told.Code == "usage" || told.Code == "push-host" || told.Code == "callback-host" || told.Code == "ops-listen" {
			code = exitUsage
		}
		if told.Hint != "" {
			fmt.Fprintf(a.err, "hint: %s\n", told.Hint)
		}
	}
	return code
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "belfry",
		Short:         "Belfry rings for websites: background notifications (Web Push) from one binary and one file",
		Example:       "  belfry serve                                  and open the demo page that it names\n  belfry send --title Hello --channel news      in a second terminal",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          ofGroup,
		RunE:          helps,
		PersistentPreRunE: func(c *cobra.Command, _ []string) error {
			// A directory named on the command line is meant, whatever server the
			// environment names.
			here := a.data.dir != "" && !c.Flags().Changed("server")
			if err := a.data.settle(c.Name(), a.getenv); err != nil {
				return err
			}
			err := config.FromEnv(c.Flags(), a.getenv)
			if here {
				a.server = ""
			}
			return err
		},
		SuggestionsMinimumDistance: 2,

		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	flags := root.PersistentFlags()
	flags.Var(&a.data, "data", "the data directory `DIR`, where a running server has its socket")
	flags.StringVar(&a.server, "server", "", "`URL` of a server on another machine; needs --token")
	flags.StringVar(&a.token, "token", "", "`token` for --server; better given as BELFRY_TOKEN, which nobody sees in a list of processes")
	flags.StringVar(&a.caFile, "server-ca", "", "`FILE` with the certificate authority of --server, PEM, where the system does not know it")
	flags.BoolVar(&a.json, "json", false, "print JSON on stdout")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return wrongUsage(c, err) })
	root.AddGroup(&cobra.Group{ID: "ring", Title: "Ring:"}, &cobra.Group{ID: "run", Title: "Run a server:"})
	for group, commands := range map[string][]*cobra.Command{
		"ring": {a.sendCommand(), a.broadcastsCommand(), a.subscriptionsCommand()},
		"run":  {a.serveCommand(), a.keysCommand(), a.tokensCommand(), a.backupCommand(), a.doctorCommand(), a.pushserviceCommand()},
		"":     {a.versionCommand()},
	} {
		for _, c := range commands {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	return root
}

// wrongUsage is err with the way to the command's help.
func wrongUsage(c *cobra.Command, err error) error {
	return exit{exitUsage, &belfry.Error{Kind: belfry.ErrInvalid, Code: "usage", Text: err.Error(), Hint: "see `" + c.CommandPath() + " --help`"}}
}

// noClient leaves the flags by which a server is found out of the help of a
// command that talks to none.
func noClient(c *cobra.Command) {
	c.SetUsageFunc(func(c *cobra.Command) error {
		for _, name := range []string{"server", "server-ca", "token"} {
			c.InheritedFlags().Lookup(name).Hidden = true
		}
		return c.Parent().UsageFunc()(c)
	})
}

// helps is what a command does that has only commands of its own.
func helps(c *cobra.Command, _ []string) error { return c.Help() }

// ofGroup checks the arguments of such a command: there should be none, so the
// first one is a command misspelt.
func ofGroup(c *cobra.Command, given []string) error {
	if len(given) == 0 {
		return nil
	}
	wrong := belfry.Invalid("usage", "", fmt.Sprintf("there is no command %q", c.CommandPath()+" "+plain(given[0])))
	wrong.Hint = "see `" + c.CommandPath() + " --help`"
	if near := c.SuggestionsFor(given[0]); len(near) > 0 {
		wrong.Hint = "did you mean `" + c.CommandPath() + " " + near[0] + "`?"
	}
	return wrong
}

// args checks positional arguments, and makes a wrong number of them a wrong usage.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, given []string) error {
		if err := check(c, given); err != nil {
			return wrongUsage(c, err)
		}
		return nil
	}
}
