package main

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry"
)

func (a *app) doctorCommand() *cobra.Command {
	c := &cobra.Command{Use: "doctor", Short: "Check every record, index, key and setting, and say what to do", Args: args(cobra.NoArgs),
		Long: `Check every record, index, key and setting of the running server, and say what to do.

Visitors notice nothing. The exit code is 0 when all is well, and 1 when there is
something to do. With --rebuild, what can be made anew is made anew first: indexes,
counts, and the list of what is running. Records are never changed.`}
	rebuild := c.Flags().Bool("rebuild", false, "first make indexes and counts anew where they are wrong")
	c.RunE = func(c *cobra.Command, _ []string) error {
		cl, err := a.ownersClient("it looks at what only the server's own machine may see")
		if err != nil {
			return err
		}
		path := "/api/v1/doctor"
		if *rebuild {
			path += "?rebuild=1"
		}
		var found belfry.Checkup
		if err := cl.call(c.Context(), http.MethodPost, path, nil, &found); err != nil {
			return err
		}
		return a.tell(found)
	}
	return c
}

// tell says what was found, and fails when that is anything.
func (a *app) tell(found belfry.Checkup) error {
	if a.json {
		if err := a.printJSON(found); err != nil {
			return err
		}
	} else {
		for _, f := range found.Findings {
			fmt.Fprintf(a.out, "%s: %s\n  %s\n", f.Severity, plain(f.What), plain(f.Hint))
		}
		fmt.Fprintln(a.out, verdict(found))
	}
	if len(found.Findings) > 0 {
		return exit{code: exitFailed}
	}
	return nil
}

// verdict says in one line what was looked at and how it is.
func verdict(found belfry.Checkup) string {
	var looked []string
	for _, l := range found.Looked {
		looked = append(looked, fmt.Sprintf("%s %d", l.What, l.Count))
	}
	verdict := "all is well"
	if n := len(found.Findings); n == 1 {
		verdict = "1 thing to do"
	} else if n > 1 {
		verdict = fmt.Sprintf("%d things to do", n)
	}
	return "checked " + strings.Join(looked, ", ") + ": " + verdict
}
