package sender_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/sender"
)

// echoes are ways in which a push service may repeat what we sent it.
var echoes = map[string]func(w http.ResponseWriter, r *http.Request, request string){
	"text": func(w http.ResponseWriter, r *http.Request, request string) {
		w.WriteHeader(400)
		io.WriteString(w, request)
	},
	"text, late": func(w http.ResponseWriter, r *http.Request, request string) {
		w.WriteHeader(410)
		io.WriteString(w, strings.Repeat("so it is ", 20)+request) // what is cut off must not leave half a secret
	},
	"Apple": func(w http.ResponseWriter, r *http.Request, request string) {
		w.WriteHeader(403)
		json.NewEncoder(w).Encode(map[string]string{"reason": "BadJwtToken: " + request})
	},
	"autopush": func(w http.ResponseWriter, r *http.Request, request string) {
		w.WriteHeader(401)
		json.NewEncoder(w).Encode(map[string]any{"errno": 109, "message": "no such endpoint: " + request})
	},
	"Google": func(w http.ResponseWriter, r *http.Request, request string) {
		w.WriteHeader(404)
		io.WriteString(w, "<HTML><HEAD><TITLE>"+strings.ReplaceAll(request, "/", "&#47;")+"</TITLE></HEAD>")
	},
	"Microsoft": func(w http.ResponseWriter, r *http.Request, request string) {
		w.Header().Set("X-WNS-Error-Description", request)
		w.Header().Set("X-WNS-Status", request)
		w.WriteHeader(429)
	},
	"unescaped": func(w http.ResponseWriter, r *http.Request, request string) {
		request, _ = url.PathUnescape(request)
		w.WriteHeader(500)
		io.WriteString(w, request)
	},
	"redirect": func(w http.ResponseWriter, r *http.Request, request string) {
		w.Header().Set("Location", "https://[::1"+request)
		w.WriteHeader(307)
	},
	"broken status line": raw("HTTP/1.1 %s\r\n\r\n"),
	"broken header":      raw("HTTP/1.1 201 Created\r\n %s\r\n\r\n"),
	"broken length":      raw("HTTP/1.1 201 Created\r\nContent-Length: %s\r\n\r\n"),
	"not HTTP":           raw("%s"),
}

// raw answers with octets of its own over HTTP/1.1.
func raw(format string) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, request string) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			fmt.Fprintf(conn, format, request)
			conn.Close()
		}
	}
}

// An outcome travels to logs, terminals and tables of failures. Whoever reads
// an endpoint there can ring that person's browser, and a token opens a whole
// push service for hours (SEC-20, SEC-22, WP-54).
func TestNoSecretInOutcomes(t *testing.T) {
	var keys []string
	var logs bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var sub belfry.Subscription
	note := func(name string, o belfry.Outcome) {
		t.Helper()
		if o.Verdict == belfry.Accepted || o.Reason == "" {
			t.Errorf("%s: %+v", name, o)
		}
		log.Debug("attempt", "name", name, "subscription", sub, "host", sub.Host(), "outcome", o, "err", o.Err)
		fmt.Fprintf(&logs, "%s: %v %+v %#v %q %v\n", name, o, o, o, o.Reason, o.Err)
	}
	for name, echo := range echoes {
		service := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			echo(w, r, "https://"+r.Host+r.RequestURI+" "+r.RequestURI+" "+r.Header.Get("Authorization")+" "+sub.P256dh.Reveal()+" "+sub.Auth.Reveal())
		}))
		service.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
		s := startAt(t, service)
		sub, _ = browser(t, service.URL+"/canary-path/canary%2Dtoken?q=canary%2Dquery")
		keys = append(keys, sub.P256dh.Reveal(), sub.Auth.Reveal())
		note(name, s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("canary-payload")}))
		service.Close()
		note(name+", gone", s.Send(t.Context(), sub, belfry.PushMessage{}))
	}

	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	defer untrusted.Close()
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	hosts, err := belfry.NewPushHosts([]string{untrusted.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := sender.New(sender.Config{Signer: newSigner(t), Hosts: hosts, Resolver: &net.Resolver{
		PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no name server") }}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, tt := range []struct{ name, endpoint, keyID string }{
		{"blocked host", "https://push.evil.example/canary-path", ""},
		{"not a URL", "https://fcm.googleapis.com/canary-path%zz", ""},
		{"not exact", "https://fcm.googleapis.com//canary-path|x", ""},
		{"unknown key", "https://fcm.googleapis.com/canary-path", "lost"},
		{"name not found", "https://fcm.googleapis.com/canary-path", ""},
		{"not trusted", untrusted.URL + "/canary-path", ""},
	} {
		sub, _ = browser(t, tt.endpoint)
		sub.KeyID = tt.keyID
		note(tt.name, s.Send(t.Context(), sub, belfry.PushMessage{Payload: []byte("canary-payload")}))
	}
	for _, secret := range append(keys, "canary", "eyJ0eX", "Post ") {
		if at := strings.Index(logs.String(), secret); at >= 0 {
			t.Errorf("%q is in the logs: …%s…", secret, logs.String()[max(0, at-200):min(at+50, logs.Len())])
		}
	}
}
