package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

// A listing is how a list is asked for and what a person sees of it.
type listing[T any] struct {
	path   string
	query  url.Values
	limit  uint   // 0 means all there are
	none   string // said when the list is empty
	header []string
	row    func(T) []string
}

// perPage is the most that a server gives at once.
const perPage = 1000

// print follows the list from page to page. A table is written page by page and
// JSON item by item, so that a million rows cost no more memory than a thousand.
func (l listing[T]) print(ctx context.Context, a *app) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	if a.json {
		return l.printJSON(cl.items(ctx, l.path, l.query, l.limit), a.out)
	}
	t, n := newTable(a.out), 0
	for item, err := range cl.items(ctx, l.path, l.query, l.limit) {
		if err != nil {
			t.Flush()
			return err
		}
		var v T
		if err := json.Unmarshal(item, &v); err != nil {
			return unreadable(err)
		}
		if n == 0 {
			t.row(l.header...)
		}
		t.row(l.row(v)...)
		if n++; n%perPage == 0 {
			t.Flush()
		}
	}
	if n == 0 {
		fmt.Fprintf(a.err, "belfry: %s\n", l.none)
	}
	return t.Flush()
}

// printJSON writes one array of what the server said, item by item.
func (l listing[T]) printJSON(items iter.Seq2[json.RawMessage, error], out io.Writer) error {
	before := "[\n  "
	for item, err := range items {
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s%s", before, item); err != nil {
			return err
		}
		before = ",\n  "
	}
	end := "\n]\n"
	if before[0] == '[' {
		end = "[]\n"
	}
	_, err := io.WriteString(out, end)
	return err
}

// items yields a list's items from page to page, up to limit unless it is 0.
func (c *client) items(ctx context.Context, path string, query url.Values, limit uint) iter.Seq2[json.RawMessage, error] {
	return func(yield func(json.RawMessage, error) bool) {
		q := url.Values{}
		for name, values := range query {
			q[name] = values
		}
		for left := limit; ; {
			page := uint(perPage)
			if limit > 0 {
				page = min(page, left)
			}
			q.Set("limit", strconv.FormatUint(uint64(page), 10))
			var got struct {
				Items []json.RawMessage `json:"items"`
				Next  *string           `json:"next"`
			}
			if err := c.call(ctx, http.MethodGet, path+"?"+q.Encode(), nil, &got); err != nil {
				yield(nil, err)
				return
			}
			for _, item := range got.Items {
				if !yield(item, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			if got.Next == nil {
				return
			}
			q.Set("after", *got.Next)
		}
	}
}

// limitFlag is --limit of a list.
func limitFlag(c *cobra.Command) *uint {
	return c.Flags().Uint("limit", 0, "list no more than `N`; 0 lists all")
}

// show asks for one thing into v, and prints it as the server said it or as told.
func (a *app) show(ctx context.Context, path string, v any, told func()) error {
	cl, err := a.client()
	if err != nil {
		return err
	}
	var raw json.RawMessage
	if err := cl.call(ctx, http.MethodGet, path, nil, &raw); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(raw)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return unreadable(err)
	}
	told()
	return nil
}
