package pushtest

import (
	"encoding/json"
	"net/http"
)

// A refusal is why a request is not taken: what autopush says about it to the
// sender, and what we say about it to whoever looks for the mistake.
type refusal struct {
	status  int
	errno   int    // autopush's number
	message string // autopush's sentence
	reason  string // our short name, for counting
	detail  string // what is wrong, for people
	header  http.Header
}

// Autopush's numbers for what it refuses (PS-11).
const (
	errnoToken    = 102 // no such endpoint
	errnoTooLarge = 104
	errnoGone     = 106
	errnoVAPID    = 109
	errnoCrypto   = 110
	errnoTTL      = 111
	errnoTopic    = 113
	errnoTTLValue = 114
	errnoOther    = 999
)

func unauthorised(message, reason, detail string) *refusal {
	return &refusal{status: http.StatusUnauthorized, errno: errnoVAPID, message: message, reason: reason, detail: detail}
}

func badRequest(errno int, message, reason, detail string) *refusal {
	return &refusal{status: http.StatusBadRequest, errno: errno, message: message, reason: reason, detail: detail}
}

// write answers as autopush does. Its more_info is a link to a page that nobody
// can open offline; ours says what is wrong.
func (f *refusal) write(w http.ResponseWriter) {
	for name, values := range f.header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	if f.errno == 0 { // Microsoft says it in header fields, with no body (PS-31)
		w.WriteHeader(f.status)
		return
	}
	switch f.status {
	case http.StatusGone:
		w.Header().Set("Cache-Control", "max-age=86400") // PS-17
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "vapid")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	json.NewEncoder(w).Encode(struct {
		Code    int    `json:"code"`
		Errno   int    `json:"errno"`
		Error   string `json:"error"`
		Message string `json:"message"`
		More    string `json:"more_info"`
	}{f.status, f.errno, phrase(f.status), f.message, f.detail})
}

// phrase names a status as autopush does; Go still has the older name of 413.
func phrase(status int) string {
	if status == http.StatusRequestEntityTooLarge {
		return "Payload Too Large"
	}
	return http.StatusText(status)
}
