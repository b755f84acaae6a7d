//go:build faults

package faults

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/belfry-push/belfry/broadcasts"
)

// An operator is told within a minute that nobody gets through to a push service,
// and why, by all that he may look at: the log, the API and the command. What
// then expires keeps the reason (REL-06).
func TestOperatorIsTold(t *testing.T) {
	t.Parallel()
	const rows = 3
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	known, unknown := newAuthority(t), newAuthority(t)
	tomorrow := time.Now().Add(24 * time.Hour)
	reasons := map[string]string{} // by host
	for reason, i := range map[string]*impostor{
		"its certificate has expired or is not valid yet": pretend(t, known.certify(t, "127.0.0.1", time.Now().Add(-time.Hour))),
		"its certificate is for another host":             pretend(t, known.certify(t, "127.0.0.2", tomorrow)),
		"its certificate is not trusted":                  pretend(t, unknown.certify(t, "127.0.0.1", tomorrow)),
	} {
		reasons[i.Addr().String()] = reason
	}
	if *full {
		reasons[pretend(t, nil).Addr().String()] = "no answer within 10 seconds"
	}
	push := startPushService(ctx, t, "--tls")
	s := newServer(ctx, t)
	s.trust(slices.Concat(push.ca, known.pem()))
	s.flags = append(s.flags, "--push-host", push.host())
	for host := range reasons {
		s.flags = append(s.flags, "--push-host", host)
	}
	s.run()
	for host := range reasons {
		lines := push.mint(rows, s.key())
		for n, line := range lines {
			lines[n] = bytes.Replace(line, []byte(push.host()), []byte(host), 1)
		}
		s.load(lines, "news")
	}

	launched := time.Now()
	id := s.launch("news", 3600)
	for !s.tellsWhy(id, reasons) {
		if time.Since(launched) > within/2 {
			t.Fatalf("it does not say why nothing is accepted: %+v", s.show(id).Hosts)
		}
		<-time.After(100 * time.Millisecond)
	}
	told := time.Since(launched)
	if told > size(within, time.Minute) {
		t.Errorf("it took %s to say why", told)
	}
	shown := s.cli(0, "broadcasts", "show", id)
	for host, reason := range reasons {
		if !strings.Contains(shown, host+": 0 accepted, waiting (it fails ("+reason+")") {
			t.Errorf("belfry broadcasts show does not say why %s has none: %s", host, shown)
		}
	}
	s.call(http.StatusOK, http.MethodPost, "/api/v1/broadcasts/"+id+"/cancel", nil, nil)
	s.finish(id)

	b := s.finish(s.launch("news", size(6, 1)))
	for _, reason := range reasons {
		if b.Expiries[reason] != rows {
			t.Errorf("it expired for %v", b.Expiries)
			break
		}
	}
	if all := rows * len(reasons); b.Counts != (broadcasts.Counts{Targets: all, Expired: all}) {
		t.Errorf("it ends with %+v", b.Counts)
	}
	s.stop()
	s.audit().agree(t, b)
	t.Logf("REL-06: %d subscribers at each of %d push services that cannot be trusted or say nothing: the log, the API and the command say why after %.1f s; %d of %d that expired have their reason",
		rows, len(reasons), told.Seconds(), b.Counts.Expired, b.Counts.Targets)
}

// tellsWhy reports whether the API and the log say of each host what is wrong with it.
func (s *server) tellsWhy(id string, reasons map[string]string) bool {
	s.t.Helper()
	told := 0
	for _, h := range s.show(id).Hosts {
		if reason := reasons[h.Host]; reason != "" && h.State == "waiting" && strings.Contains(h.Reason, reason) {
			told++
		}
	}
	for line := range strings.Lines(s.life.Said()) {
		for host, reason := range reasons {
			if strings.Contains(line, `"level":"WARN"`) && strings.Contains(line, `"host":"`+host+`"`) && strings.Contains(line, "it fails ("+reason+")") {
				told++
			}
		}
	}
	return told >= 2*len(reasons)
}
