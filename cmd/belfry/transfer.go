package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/cobra"

	"github.com/belfry-push/belfry"
)

func (a *app) importCommand() *cobra.Command {
	c := &cobra.Command{Use: "import FILE|-", Short: "Import subscriptions, one JSON object a line", Args: args(cobra.ExactArgs(1)),
		Long: `Import subscriptions from FILE, or from standard input when FILE is -.

Each line is one JSON object as PushSubscription.toJSON() gives it in a browser,
and may hold channels, user, locale, timeZone, origin and keyId besides.
Lines that are wrong are refused by number and reason, and the rest goes on;
the exit code is 1 then. Saying a line twice is saying it once.`,
		Example: "  belfry subscriptions import subscriptions.ndjson --channel news\n  belfry subscriptions export --data old | belfry subscriptions import - --data new"}
	channels := c.Flags().StringSlice("channel", nil, "a `channel` that all of them listen to; may be repeated")
	user := c.Flags().String("user", "", "the `user` of rows that name none")
	key := c.Flags().String("key", "", "`ID` of the VAPID key that rows were made with which name none (default the current key)")
	c.RunE = func(c *cobra.Command, given []string) error {
		q := url.Values{"channel": *channels}
		for name, value := range map[string]string{"user": *user, "key": *key} {
			if value != "" {
				q.Set(name, value)
			}
		}
		return a.importFrom(c, given[0], q)
	}
	return c
}

// importFrom streams the file to the server while it reads the server's word
// on each line that it refuses.
func (a *app) importFrom(c *cobra.Command, name string, q url.Values) error {
	in, size, err := a.open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	cl, err := a.client()
	if err != nil {
		return err
	}
	reading := a.reading(size, "importing")
	// The server's answer may come before we are through: NopCloser keeps the
	// client from waiting for a standard input that never ends.
	resp, err := cl.send(c.Context(), http.MethodPost, subscriptionsPath+"/import?"+q.Encode(), io.NopCloser(reading.of(in)))
	if err != nil {
		reading.end()
		return err
	}
	defer resp.Body.Close()
	sum, err := a.readImport(resp.Body, reading)
	reading.end()
	if err != nil {
		return err
	}
	return a.imported(sum)
}

// open opens a file to read, or standard input for "-". The size is -1 where it
// is not known.
func (a *app) open(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(a.in), -1, nil
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return f, -1, err
	}
	return f, info.Size(), nil
}

// An importLine is a line of the server's answer: a refused line, or at the end the sums.
type importLine struct {
	Line     int    `json:"line,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Stopped  string `json:"stopped,omitempty"`
	Imported *int   `json:"imported,omitempty"`
	Updated  *int   `json:"updated,omitempty"`
	Refused  *int   `json:"refused,omitempty"`
}

func (l importLine) isSum() bool { return l.Imported != nil && l.Updated != nil && l.Refused != nil }

// readImport shows refusals as they come and returns the sums.
func (a *app) readImport(body io.Reader, r reading) (importLine, error) {
	in := bufio.NewScanner(body)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var l importLine
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			return l, unreadable(err)
		}
		if l.isSum() {
			return l, nil
		}
		if a.json {
			if err := json.NewEncoder(a.out).Encode(l); err != nil {
				return l, err
			}
			continue
		}
		r.clear()
		fmt.Fprintf(a.err, "line %d: %s\n", l.Line, plain(l.Reason))
	}
	return importLine{}, &belfry.Error{Kind: belfry.ErrBusy, Code: "cut-off", Text: "the server went away during the import",
		Hint: "import the same file again: lines that came through are brought up to date, not doubled"}
}

// imported reports the sums, and fails when not every line is in.
func (a *app) imported(sum importLine) error {
	if a.json {
		if err := json.NewEncoder(a.out).Encode(sum); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(a.out, "imported %d, updated %d, refused %d\n", *sum.Imported, *sum.Updated, *sum.Refused)
	}
	if sum.Stopped != "" {
		return fmt.Errorf("the import stopped at line %d: %s", sum.Line, plain(sum.Stopped))
	}
	if *sum.Refused > 0 {
		return exit{code: exitFailed}
	}
	return nil
}

func (a *app) exportCommand() *cobra.Command {
	c := &cobra.Command{Use: "export", Short: "Export subscriptions whole, one JSON object a line", Args: args(cobra.NoArgs),
		Long:    "Export subscriptions to standard output, endpoints and keys too, as import reads them.\n\nWhoever has the output and the VAPID key can ring these browsers: keep it as you keep a password.",
		Example: "  (umask 077; belfry subscriptions export --channel news >news.ndjson)"}
	query := selection(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		q, err := query()
		if err != nil {
			return err
		}
		cl, err := a.client()
		if err != nil {
			return err
		}
		resp, err := cl.send(c.Context(), http.MethodGet, subscriptionsPath+"/export?"+q.Encode(), nil)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		// The server breaks the connection when it cannot give all, so that an
		// end without an error is the end of the list.
		if _, err := io.Copy(a.out, resp.Body); err != nil {
			return cutOff("the export", err)
		}
		return nil
	}
	return c
}

// cutOff says that a stream from the server ended before its end.
func cutOff(what string, err error) error {
	var told *belfry.Error
	if errors.As(err, &told) {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = errors.New("the server broke off; its log says why")
	}
	return fmt.Errorf("%s is not whole: %w", what, err)
}
