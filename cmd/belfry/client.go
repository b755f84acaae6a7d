package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/config"
)

// A client speaks to a running server: over its socket, or over the network
// with a token.
type client struct {
	http  *http.Client
	base  string
	token string
	where string // for errors
}

// reachWithin is how long a server over the network may take to be there. What
// it answers may take as long as it needs.
const reachWithin = 10 * time.Second

// client finds the server that the flags name.
func (a *app) client() (*client, error) {
	if a.server == "" {
		paths, err := config.PathsIn(a.data.dir)
		if err != nil {
			return nil, err
		}
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", paths.Socket)
		}
		return &client{http: &http.Client{Transport: &http.Transport{DialContext: dial}}, base: "http://belfry", where: a.data.dir}, nil
	}
	u, err := url.Parse(a.server)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, belfry.Invalid("usage", "--server", "must be a URL such as https://ring.example.com:8443")
	}
	if u.Scheme == "http" && !config.Loopback(u.Hostname()) {
		return nil, belfry.Invalid("usage", "--server", "must begin with https://: the token would travel in the clear")
	}
	if a.token == "" {
		return nil, &belfry.Error{Kind: belfry.ErrInvalid, Code: "usage", Where: "--server", Text: "needs a token",
			Hint: "make one on the server with `belfry tokens new`, and give it as BELFRY_TOKEN"}
	}
	roots, err := rootsWith("--server-ca", a.caFile)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: reachWithin}).DialContext, TLSHandshakeTimeout: reachWithin,
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	// A redirect would carry the token to wherever it leads.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &client{http: &http.Client{Transport: transport, CheckRedirect: stay}, base: strings.TrimSuffix(a.server, "/"), token: a.token, where: a.server}, nil
}

// ownersClient is a client for calls that the server answers over its socket
// alone, since private keys are in them.
func (a *app) ownersClient(why string) (*client, error) {
	if a.server != "" {
		return nil, &belfry.Error{Kind: belfry.ErrInvalid, Code: "usage", Where: "--server", Text: "cannot be used here: " + why,
			Hint: "run this command on the server's own machine, with its --data"}
	}
	return a.client()
}

// call sends in as JSON, unless it is nil, and reads the answer into out, unless that is nil.
func (c *client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := encoded(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return unreadable(err)
	}
	return nil
}

// encoded is v as JSON. What an operator wrote goes out as it was written: to
// write "<" as an escape, as encoding/json does for the sake of HTML, would make
// six octets of one, of which a push service takes only so many.
func encoded(v any) ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(text.Bytes(), []byte("\n")), err
}

// unreadable is for an answer that is not what this version of belfry expects.
func unreadable(err error) error { return fmt.Errorf("the server's answer cannot be read: %w", err) }

// send makes a request and returns its answer, or the server's own words when it refuses.
func (c *client) send(ctx context.Context, method, path string, body io.Reader, headers ...[2]string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	for _, h := range headers {
		req.Header.Set(h[0], h[1])
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreached(err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	var p struct{ Detail, Code, Hint string }
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&p) != nil || p.Detail == "" {
		return nil, &belfry.Error{Kind: belfry.ErrInvalid, Code: codeNoServer, Text: fmt.Sprintf("%s answered %s", c.where, resp.Status),
			Hint: "check that --server names the address of --ops-listen, with https:// where the server has a certificate"}
	}
	return nil, &belfry.Error{Kind: belfry.ErrInvalid, Code: "server-" + p.Code, Text: p.Detail, Hint: p.Hint}
}

// codeNoServer is the Code of the error that nobody answered.
const codeNoServer = "no-server"

// unreached says that nobody answered, and what to do about it.
func (c *client) unreached(err error) error {
	var lost *url.Error
	if errors.As(err, &lost) {
		err = lost.Err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if c.token == "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)) {
		return &belfry.Error{Kind: belfry.ErrBusy, Code: codeNoServer, Text: "no server is running in " + c.where,
			Hint: "start one with `belfry serve`, or name its directory with --data or its URL with --server"}
	}
	if c.token == "" && errors.Is(err, fs.ErrPermission) {
		return &belfry.Error{Kind: belfry.ErrDenied, Code: codeNoServer, Text: "the server's socket in " + c.where + " belongs to another user",
			Hint: "run the command as the user who runs `belfry serve`, or use --server with a token"}
	}
	if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
		return &belfry.Error{Kind: belfry.ErrDenied, Code: codeNoServer, Text: fmt.Sprintf("cannot trust %s: %s", c.where, err),
			Hint: "give the authority of its certificate with --server-ca FILE"}
	}
	return &belfry.Error{Kind: belfry.ErrBusy, Code: codeNoServer, Text: fmt.Sprintf("cannot reach %s: %s", c.where, err),
		Hint: "check --server and that the server runs with --ops-listen"}
}
