package pushtest

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/belfry-push/belfry"
)

const (
	maxBody    = 4096                // RFC 8030 §7.2: what a push service must take
	maxTTL     = 30 * 24 * time.Hour // longer ones are shortened without a word (PS-14)
	maxRead    = 64 << 10            // octets of a body that we look at, to be able to say how long it is
	bridgeJSON = 75                  // octets around the body on its way to a phone (PS-12)
	bridgeMax  = 4096
)

// A request is one request for delivery on its way through the checks.
type request struct {
	*Received
	sub   *subscription
	vapid vapid
	body  []byte
}

// push is the front door (RFC 8030 §5).
func (s *Service) push(w http.ResponseWriter, r *http.Request) {
	token := r.PathValue("token")
	req := &request{Received: &Received{Endpoint: s.resource(r), Token: token, Time: s.now(), Proto: r.Proto,
		Header: r.Header, Topic: r.Header.Get("Topic"), Urgency: r.Header.Get("Urgency")}}
	bad := s.admit(req)
	if bad == nil {
		if a := s.answer(req.sub, Reset); a.Fault == Reset {
			s.play(w, r, req, a)
			return
		}
	}
	var err error
	if req.body, err = io.ReadAll(io.LimitReader(r.Body, maxRead)); err != nil {
		req.Reason, req.Fault = hungUp, "the client hung up before the end of its body"
		s.ledger.note(*req.Received)
		panic(http.ErrAbortHandler)
	}
	req.Length = len(req.body)
	if bad == nil {
		bad = req.checkBody()
	}
	if bad == nil {
		bad = s.bucket.take(s.now())
	}
	if bad != nil {
		req.Status, req.Reason, req.Fault = bad.status, bad.reason, bad.detail
		s.ledger.note(*req.Received)
		bad.write(w)
		return
	}
	s.play(w, r, req, s.answer(req.sub))
}

// resource is the endpoint that a request is for.
func (s *Service) resource(r *http.Request) belfry.Endpoint {
	if strings.HasPrefix(r.URL.Path, googlePath) {
		return belfry.StoredEndpoint("https://" + r.Host + r.URL.Path)
	}
	return belfry.StoredEndpoint(s.url + r.URL.Path)
}

// play gives the answer a to a request that passed all checks. The ledger is
// written first: who has the answer finds the request in it.
func (s *Service) play(w http.ResponseWriter, r *http.Request, req *request, a Answer) {
	if !s.pause(r.Context(), a.Delay) {
		req.Reason, req.Fault = hungUp, "the client hung up before its answer"
		s.ledger.note(*req.Received)
		panic(http.ErrAbortHandler)
	}
	req.Fault = string(a.Fault)
	if a.Fault != "" && a.Fault != Close {
		if a.Fault == EndlessBody || a.Fault == CutAnswer {
			req.Status = cmp.Or(a.Status, http.StatusCreated)
		}
		s.ledger.note(*req.Received)
		s.fail(w, r, a)
		return
	}
	req.Status = cmp.Or(a.Status, http.StatusCreated)
	if req.Accepted() {
		granted := min(req.TTL, maxTTL)
		req.Message = newToken()
		w.Header().Set("Location", s.url+"/m/"+req.Message)
		w.Header().Set("TTL", strconv.Itoa(int(granted/time.Second)))
		s.accept(req, granted)
	} else {
		s.ledger.note(*req.Received)
	}
	if a.Fault == Close {
		w.Header().Set("Connection", "close")
	}
	a.write(w, req.Status, 0)
	io.WriteString(w, a.Body)
}

// accept writes the ledger before a browser can acknowledge, then delivers.
func (s *Service) accept(req *request, ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.note(*req.Received)
	if req.sub.ended {
		return // while we looked at its body
	}
	s.deliver(&message{id: req.Message, sub: req.sub, body: req.body, plain: req.Plaintext, topic: req.Topic,
		expires: req.Time.Add(ttl)})
}

// admit checks all that comes before the body, in autopush's order: a wrong key
// is told before the end of the subscription.
func (s *Service) admit(req *request) *refusal {
	s.mu.Lock()
	sub := s.subs[req.Token]
	ended := sub != nil && sub.ended
	s.mu.Unlock()
	if sub == nil || !strings.HasSuffix(req.Endpoint.Reveal(), sub.path()) {
		return &refusal{status: http.StatusNotFound, errno: errnoToken, message: "Invalid token", reason: "unknown",
			detail: "no subscription was ever made with this endpoint"}
	}
	req.sub = sub
	bad := req.checkDraft()
	if bad != nil {
		return bad
	}
	if req.vapid, bad = parseVAPID(req.Header); bad != nil {
		return bad
	}
	if sub.key != "" && req.vapid.key != sub.key {
		return unauthorised("VAPID public key mismatch", "vapid-mismatch", "the subscription was made with another key than k")
	}
	if ended {
		return &refusal{status: http.StatusGone, errno: errnoGone, message: "No such subscription", reason: "ended",
			detail: "the subscription has ended"}
	}
	if bad = req.vapid.check(req.Endpoint.Origin(), s.now(), &s.tokens); bad != nil {
		return bad
	}
	for _, check := range []func() *refusal{req.checkTTL, req.checkUrgency, req.checkTopic, req.checkCoding} {
		if bad = check(); bad != nil {
			return bad
		}
	}
	return nil
}

var digits = regexp.MustCompile(`^[0-9]+$`)

// checkTTL reads 1*DIGIT, exactly once (RFC 8030 §5.2, WP-03, WP-04).
func (req *request) checkTTL() *refusal {
	fields := req.Header.Values("TTL")
	switch {
	case len(fields) == 0:
		return badRequest(errnoTTL, "Missing TTL value", "ttl", "the TTL header field is missing (RFC 8030 §5.2)")
	case len(fields) > 1:
		return badRequest(errnoTTL, "Missing TTL value", "ttl", "more than one TTL header field")
	case fields[0] != "" && fields[0][0] == '-':
		return badRequest(errnoTTLValue, "TTL must be greater than 0", "ttl", fmt.Sprintf("TTL %s is negative", fields[0]))
	case !digits.MatchString(fields[0]):
		return badRequest(errnoTTL, "Missing TTL value", "ttl", fmt.Sprintf("TTL %+q is not a whole number of seconds", fields[0]))
	}
	seconds, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil || seconds > 1<<31 {
		seconds = 1 << 31 // RFC 8030 §5.2
	}
	req.TTL = time.Duration(seconds) * time.Second
	if req.TTL == 0 && slices.Contains(req.sub.rules, NoTTLZero) {
		return &refusal{status: http.StatusBadRequest, reason: "ttl", detail: "TTL 0 at a service that wants more",
			header: http.Header{
				"X-Wns-Error-Description": {"Ttl value conflicts with X-WNS-Cache-Policy."},
				"X-Wns-Status":            {"dropped"},
			}}
	}
	return nil
}

// checkUrgency admits one legal value at most once (RFC 8030 §5.3, WP-08).
func (req *request) checkUrgency() *refusal {
	fields := req.Header.Values("Urgency")
	if len(fields) == 0 || len(fields) == 1 && slices.Contains([]string{"very-low", "low", "normal", "high"}, fields[0]) {
		return nil
	}
	return badRequest(errnoOther, "Invalid Urgency value", "urgency",
		fmt.Sprintf("Urgency %+q is not one of very-low, low, normal and high, once", fields))
}

var topicForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,32}$`)

// checkTopic is RFC 8030 §5.4, and Apple's rule that a topic must be something
// that base64url could have made (PS-24).
func (req *request) checkTopic() *refusal {
	fields := req.Header.Values("Topic")
	wrong := func(message, detail string) *refusal { return badRequest(errnoTopic, message, "topic", detail) }
	switch {
	case len(fields) == 0:
		return nil
	case len(fields) > 1:
		return wrong("Topic must be URL and Filename safe Base64 alphabet", "more than one Topic header field")
	case len(fields[0]) > 32:
		return wrong("Topic must be no greater than 32 characters", fmt.Sprintf("Topic has %d characters", len(fields[0])))
	case !topicForm.MatchString(fields[0]):
		return wrong("Topic must be URL and Filename safe Base64 alphabet", fmt.Sprintf("Topic %+q is not of the base64url alphabet", fields[0]))
	case len(fields[0])%4 == 1:
		return wrong("Topic must be URL and Filename safe Base64 alphabet",
			fmt.Sprintf("no base64url is %d characters long, and Apple refuses such a Topic", len(fields[0])))
	}
	return nil
}

// checkDraft refuses what is sealed as the last draft had it. It comes before the
// token, which had another form too then: who heard of that alone would mend the
// token and fail again.
func (req *request) checkDraft() *refusal {
	if req.Header.Get("Content-Encoding") != "aesgcm" {
		return nil
	}
	return badRequest(errnoCrypto, "Unknown Content-Encoding header", "coding",
		"aesgcm is a draft that RFC 8291 replaced in 2017; this service takes aes128gcm only")
}

// checkCoding demands aes128gcm and nothing of the drafts before it (WP-20, PS-15).
func (req *request) checkCoding() *refusal {
	wrong := func(message, detail string) *refusal { return badRequest(errnoCrypto, message, "coding", detail) }
	fields := req.Header.Values("Content-Encoding")
	switch {
	case len(fields) == 0: // as it must be without a payload: checkBody sees whether there is one
	case len(fields) > 1 || fields[0] != "aes128gcm":
		return wrong("Unknown Content-Encoding header", fmt.Sprintf("Content-Encoding is %+q and must be aes128gcm, once", fields))
	}
	for _, name := range []string{"Encryption", "Crypto-Key", "Encryption-Key"} {
		if len(req.Header.Values(name)) > 0 {
			return wrong("Do not include '"+name+"' header", name+" belongs to the aesgcm draft; with aes128gcm all is in the body")
		}
	}
	return nil
}

// checkBody checks size and form, and decrypts where the service has the key.
func (req *request) checkBody() *refusal {
	wrong := func(detail string) *refusal { return badRequest(errnoCrypto, "Invalid encryption", "body", detail) }
	tooLarge := func(message, detail string) *refusal {
		return &refusal{status: http.StatusRequestEntityTooLarge, errno: errnoTooLarge, message: message, reason: "size", detail: detail}
	}
	if len(req.Header.Values("Content-Encoding")) == 0 {
		if len(req.body) == 0 {
			return nil // only wakes the worker, with no data (W3C Push API; autopush takes it)
		}
		return badRequest(errnoCrypto, "Missing Content-Encoding header", "coding", "Content-Encoding must be aes128gcm (RFC 8291 §4)")
	}
	if n := len(req.body); n > maxBody {
		return tooLarge("A payload reached size limit.", fmt.Sprintf("the body has %d octets or more, and %d is the most", n, maxBody))
	}
	if slices.Contains(req.sub.rules, Constrained) {
		if over := base64.RawURLEncoding.EncodedLen(len(req.body)) + bridgeJSON - bridgeMax; over > 0 {
			return tooLarge(fmt.Sprintf("This message is intended for a constrained device and is limited in size. "+
				"Converted buffer is too long by %d bytes", over), "a phone takes bodies of at most 3015 octets")
		}
	}
	if n := len(req.body); n < minBody {
		return wrong(fmt.Sprintf("the body has %d octets, and %d is the least (RFC 8291 §4)", n, minBody))
	}
	c, _, err := readPush(req.body)
	if err != nil {
		return wrong("the body is not one push message: " + err.Error())
	}
	if key, _ := base64.RawURLEncoding.DecodeString(req.vapid.key); bytes.Equal(key, c.keyID) {
		return wrong("the body is sealed with the VAPID key, which must sign and nothing else (RFC 8292 §3.2)")
	}
	if req.sub.private == nil {
		return nil // only the browser can read it
	}
	if req.Plaintext, err = Open(req.body, req.sub.private, req.sub.auth); err != nil {
		return wrong("the body does not decrypt: " + err.Error())
	}
	return nil
}
