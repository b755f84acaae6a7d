package pushtest

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Before Chromium connects, it asks over HTTP for a name (check-in), and for each
// page that subscribes for a token, which it makes an endpoint of by itself.

// googleHosts are what builds of Chromium write in front of a token: Debian's
// and other unbranded ones the first, Chrome and its kin the second (PS-01).
var googleHosts = []string{"jmt17.google.com", "fcm.googleapis.com"}

// checkin gives a browser its name, or lets it keep the one that it has.
func (s *Service) checkin(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxFrame))
	if err != nil {
		return // the client hung up, or has its answer
	}
	request, err := readFields(body)
	if err != nil {
		http.Error(w, "not a check-in request", http.StatusBadRequest)
		return
	}
	id, secret := randomID(), randomID()
	var knownID, knownSecret uint64
	for _, f := range request {
		switch f.number {
		case 2:
			knownID = f.value
		case 13:
			knownSecret = f.value
		}
	}
	if knownID != 0 && knownSecret != 0 {
		id, secret = knownID, knownSecret
	}
	answer := appendNumber(nil, 1, 1) // stats_ok
	answer = appendNumber(answer, 3, uint64(s.now().UnixMilli()))
	answer = appendFixed(answer, 7, id)
	answer = appendFixed(answer, 8, secret)
	answer = appendNumber(answer, 9, 0) // no settings follow
	w.Header().Set("Content-Type", "application/x-protobuf")
	w.Write(answer)
}

// randomID is never 0, which means none, nor above what Chromium writes in a
// decimal of 63 bits.
func randomID() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])>>1 | 1
}

// registration gives a page its token, or takes it back. Chromium wants to be
// told in the body, with 200, what becomes of it.
func (s *Service) registration(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AidLogin ")
	r.Body = http.MaxBytesReader(w, r.Body, maxFrame)
	if err := r.ParseForm(); err != nil || !ok {
		fmt.Fprint(w, "Error=AUTHENTICATION_FAILED")
		return
	}
	app, subtype := r.PostForm.Get("app"), r.PostForm.Get("X-subtype")
	b := s.named(name)
	switch page := strings.HasPrefix(subtype, "wp:"); {
	case r.PostForm.Get("delete") == "true":
		if s.unsubscribe(b, subtype, unregisteredByHand) != nil {
			fmt.Fprint(w, "Error=INTERNAL_SERVER_ERROR")
			return
		}
		fmt.Fprint(w, "token="+r.PostForm.Get("appid"))
	case !page: // the browser itself, which nobody will ring
		fmt.Fprint(w, "token="+newToken())
	default:
		key, err := normalised(r.PostForm.Get("sender"))
		if err != nil || key == "" || app == "" {
			fmt.Fprint(w, "Error=INVALID_PARAMETERS")
			return
		}
		sub, err := s.subscribe(b, channel{name: subtype, app: app}, key)
		if err != nil {
			fmt.Fprint(w, "Error=INTERNAL_SERVER_ERROR")
			return
		}
		fmt.Fprint(w, "token="+sub.token)
	}
}

// named is the browser of that name. One that checked in with a service before
// this, or before anything was to be kept of it, is met here for the first time.
func (s *Service) named(name string) *browser {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b := s.browsers[name]; b != nil {
		return b
	}
	return s.meet(name)
}
