package web

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/subscriptions"
)

// A Row is a subscription as an operator sees it: never its endpoint (SEC-23).
type Row struct {
	ID       string     `json:"id"`
	Host     string     `json:"host"`
	Channels []string   `json:"channels"`
	User     string     `json:"user"`
	Locale   string     `json:"locale"`
	TimeZone string     `json:"timeZone"`
	Origin   string     `json:"origin"`
	KeyID    string     `json:"keyId"`
	Imported bool       `json:"imported"`
	Marks    []string   `json:"marks"` // what push services have let us know of it
	Created  time.Time  `json:"created"`
	Seen     *time.Time `json:"seen"` // when its browser was last heard of; null for never
}

func rowOf(s belfry.Subscription) Row {
	r := Row{ID: s.ID, Host: s.Host(), Channels: append([]string{}, s.Channels...), User: s.User, Locale: s.Locale,
		TimeZone: s.TimeZone, Origin: s.Origin, KeyID: s.KeyID, Imported: s.Imported, Marks: append([]string{}, s.Memory.Marks()...), Created: s.Created}
	if !s.Seen.IsZero() {
		r.Seen = &s.Seen
	}
	return r
}

// A line is a subscription as import and export write it: what
// PushSubscription.toJSON() gives, and what we know besides.
type line struct {
	belfry.PushSubscription
	Channels []string      `json:"channels,omitempty"`
	User     string        `json:"user,omitempty"`
	Locale   string        `json:"locale,omitempty"`
	TimeZone string        `json:"timeZone,omitempty"`
	Origin   string        `json:"origin,omitempty"`
	KeyID    string        `json:"keyId,omitempty"`
	Memory   belfry.Memory `json:"memory,omitzero"`
}

// audienceOf reads ?channel= and ?user= into an audience, all by default.
func audienceOf(c *gin.Context) (belfry.Audience, error) {
	a := belfry.Audience{Channels: c.QueryArray("channel"), Users: c.QueryArray("user")}
	a.All = len(a.Channels) == 0 && len(a.Users) == 0
	return a.Check()
}

// listSubscriptions answers a page of rows, or with ?count=1 how many there are.
func (s *Server) listSubscriptions(c *gin.Context) error {
	a, err := audienceOf(c)
	if err != nil {
		return err
	}
	if c.Query("count") == "1" {
		n, err := s.Subscriptions.Count(c.Request.Context(), a)
		if err != nil {
			return err
		}
		c.JSON(http.StatusOK, gin.H{"count": n})
		return nil
	}
	limit, err := limitOf(c)
	if err != nil {
		return err
	}
	after, err := strconv.ParseUint(c.DefaultQuery("after", "0"), 36, 64)
	if err != nil {
		return belfry.Invalid("after", "after", "is not a position that a list gave out")
	}
	const toTheEnd = ^belfry.Position(0)
	rows, last, done, err := s.Subscriptions.Page(c.Request.Context(), a, belfry.Position(after), toTheEnd, limit)
	if err != nil {
		return err
	}
	items := make([]Row, len(rows))
	for i, r := range rows {
		items[i] = rowOf(r)
	}
	var next *string
	if !done {
		position := strconv.FormatUint(uint64(last), 36)
		next = &position
	}
	c.JSON(http.StatusOK, gin.H{"items": items, "next": next})
	return nil
}

func (s *Server) showSubscription(c *gin.Context) error {
	r, err := s.Subscriptions.Get(c.Request.Context(), c.Param("id"))
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, rowOf(r))
	return nil
}

func (s *Server) removeSubscription(c *gin.Context) error {
	if err := s.Subscriptions.Remove(c.Request.Context(), c.Param("id")); err != nil {
		return err
	}
	c.Status(http.StatusNoContent)
	return nil
}

// addSubscription stores one subscription that a site's own backend collected.
// Saying it twice is saying it once.
func (s *Server) addSubscription(c *gin.Context) error {
	in, err := decode[jsontext.Value](c.Request.Body, maxRegistration)
	if err != nil {
		return err
	}
	r, err := s.readLine(in, importDefaults{})
	if err != nil {
		return err
	}
	if _, err := s.Subscriptions.Import(c.Request.Context(), []belfry.Subscription{r}, s.Keys.Current().ID); err != nil {
		return err
	}
	stored, err := s.Subscriptions.ByEndpoint(c.Request.Context(), r.Endpoint)
	if err != nil {
		return err
	}
	c.JSON(http.StatusCreated, rowOf(stored))
	return nil
}

// changeSubscription changes what an operator may decide: channels and user.
func (s *Server) changeSubscription(c *gin.Context) error {
	type call struct {
		Channels *[]string `json:"channels"`
		User     *string   `json:"user"`
		Locale   *string   `json:"locale"`
		TimeZone *string   `json:"timeZone"`
	}
	in, err := decode[call](c.Request.Body, maxRegistration)
	if err != nil {
		return err
	}
	change, err := s.check(registration{Channels: in.Channels, Locale: in.Locale, TimeZone: in.TimeZone})
	if err != nil {
		return err
	}
	if in.User != nil {
		if err := belfry.CheckUser(*in.User); err != nil {
			return err
		}
		change.User = in.User
	}
	r, err := s.Subscriptions.Update(c.Request.Context(), c.Param("id"), change)
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, rowOf(r))
	return nil
}

// unlimited lifts the time limits of a call that streams for as long as it takes.
func unlimited(c *gin.Context) error {
	rc := http.NewResponseController(c.Writer)
	return errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}))
}

// exportSubscriptions streams every row whole, endpoint and keys too.
func (s *Server) exportSubscriptions(c *gin.Context) error {
	a, err := audienceOf(c)
	if err != nil {
		return err
	}
	if err := unlimited(c); err != nil {
		return err
	}
	s.Log.Info("subscriptions are being exported")
	c.Header("Content-Type", "application/x-ndjson")
	c.Header("Cache-Control", "no-store")
	out := bufio.NewWriter(c.Writer)
	for r, err := range s.Subscriptions.All(c.Request.Context(), a) {
		if err == nil {
			err = json.MarshalWrite(out, lineOf(r))
		}
		if err != nil {
			s.Log.Error("the export was cut off", "err", err)
			panic(http.ErrAbortHandler) // half an export must not look whole
		}
		out.WriteByte('\n')
	}
	return out.Flush()
}

func lineOf(r belfry.Subscription) line {
	l := line{Channels: r.Channels, User: r.User, Locale: r.Locale, TimeZone: r.TimeZone, Origin: r.Origin, KeyID: r.KeyID, Memory: r.Memory}
	l.Endpoint = r.Endpoint.Reveal()
	l.Keys.P256dh, l.Keys.Auth = r.P256dh.Reveal(), r.Auth.Reveal()
	if !r.Expires.IsZero() {
		ms := float64(r.Expires.UnixMilli())
		l.ExpirationTime = &ms
	}
	return l
}

const (
	// maxLine bounds one line of an import, in octets.
	maxLine = 16 << 10
	// importBatch is how many rows share one transaction, and so one fsync. With
	// more the memory that they take grows, and little is saved.
	importBatch = 8192
)

// importDefaults are what rows get that do not say it themselves.
type importDefaults struct {
	channels []string
	user     string
	keyID    string // empty means the one of each row, where it is known, else the current one
}

// A refusal is a line that was not imported.
type refusal struct {
	Line   int    `json:"line"`
	Reason string `json:"reason"`
}

// importSums is the last line of an import's answer.
type importSums struct {
	Imported int    `json:"imported"`
	Updated  int    `json:"updated"`
	Refused  int    `json:"refused"`
	Stopped  string `json:"stopped,omitempty"` // why it could not go on
	Line     int    `json:"line,omitzero"`     // with stopped: where
}

// importSubscriptions reads one JSON object a line and goes on behind lines
// that are wrong. It answers with a line for each refusal as it meets it, and
// with the sums at the end, so that neither side holds the whole.
func (s *Server) importSubscriptions(c *gin.Context) error {
	defaults, err := s.importDefaultsOf(c)
	if err != nil {
		return err
	}
	rc := http.NewResponseController(c.Writer)
	// HTTP/1.1 would otherwise stop reading once the first refusal is written.
	if err := rc.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if err := unlimited(c); err != nil {
		return err
	}
	c.Header("Content-Type", "application/x-ndjson")
	say := func(v any) error {
		err := json.MarshalWrite(c.Writer, v)
		io.WriteString(c.Writer, "\n")
		return errors.Join(err, rc.Flush())
	}
	imp := importer{server: s, ctx: c.Request.Context(), refuse: func(r refusal) { say(r) }}
	err = imp.read(c.Request.Body, defaults)
	// What is in stays in, also where whoever sent it is gone.
	err = cmp.Or(err, s.Subscriptions.Index(context.WithoutCancel(c.Request.Context())))
	sums := importSums{Imported: imp.sum.Created, Updated: imp.sum.Updated, Refused: imp.refused}
	if err != nil {
		p := asProblem(err)
		if p.Status == http.StatusInternalServerError {
			s.Log.Error("import stopped", "err", err)
		}
		sums.Stopped, sums.Line = p.Detail, imp.line
	}
	return say(sums)
}

func (s *Server) importDefaultsOf(c *gin.Context) (d importDefaults, err error) {
	if d.channels, err = belfry.CheckChannels(c.QueryArray("channel")); err != nil {
		return d, err
	}
	d.user = c.Query("user")
	if err := belfry.CheckUser(d.user); err != nil {
		return d, err
	}
	if d.keyID = c.Query("key"); d.keyID == "" {
		return d, nil
	}
	return d, s.knownKey(d.keyID)
}

// An importer takes lines in and rows out, a batch at a time. While the store
// writes one batch, the next is read and checked.
type importer struct {
	server  *Server
	ctx     context.Context
	refuse  func(refusal)
	line    int
	refused int
	batch   batch
	stored  chan stored // of the batch that is being written; nil when none is
	sum     subscriptions.Imported
}

// A batch is rows and the lines that they stood on.
type batch struct {
	rows  []belfry.Subscription
	lines []int
}

// stored is what became of a batch.
type stored struct {
	batch
	subscriptions.Imported
	err   error
	fault any // of a panic, which is for the handler to answer
}

func (i *importer) read(body io.Reader, d importDefaults) error {
	in := bufio.NewReaderSize(body, maxLine)
	for {
		text, err := in.ReadSlice('\n')
		if len(text) > 0 {
			i.line++
			if errors.Is(err, bufio.ErrBufferFull) {
				i.reject(i.line, fmt.Sprintf("the line is over %d octets", maxLine))
				err = skipLine(in)
			} else if err := i.take(bytes.TrimSpace(text), d); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return i.finish()
		}
		if err != nil {
			return errors.Join(unreadable(err), i.finish())
		}
	}
}

func skipLine(in *bufio.Reader) (err error) {
	for err = bufio.ErrBufferFull; errors.Is(err, bufio.ErrBufferFull); {
		_, err = in.ReadSlice('\n')
	}
	return err
}

func (i *importer) take(text []byte, d importDefaults) error {
	if len(text) == 0 {
		return nil
	}
	r, err := i.server.readLine(text, d)
	if err != nil {
		i.reject(i.line, asProblem(err).Detail)
		return nil
	}
	i.batch.lines = append(i.batch.lines, i.line)
	if i.batch.rows = append(i.batch.rows, r); len(i.batch.rows) == importBatch {
		return i.flush()
	}
	return nil
}

func (i *importer) reject(line int, reason string) {
	i.refused++
	i.refuse(refusal{line, reason})
}

// flush gives the batch to the store once the one before it is written.
func (i *importer) flush() error {
	if err := i.settle(); err != nil {
		return err
	}
	b, done := i.batch, make(chan stored, 1)
	i.batch, i.stored = batch{}, done
	go func() {
		s := stored{batch: b}
		defer func() { s.fault = recover(); done <- s }()
		s.Imported, s.err = i.server.Subscriptions.Import(i.ctx, b.rows, i.server.Keys.Current().ID)
	}()
	return nil
}

// settle waits for the batch that is being written and books it.
func (i *importer) settle() error {
	if i.stored == nil {
		return nil
	}
	s := <-i.stored
	i.stored = nil
	if s.fault != nil {
		panic(s.fault)
	}
	i.sum.Created += s.Created
	i.sum.Updated += s.Updated
	for _, r := range s.Refused {
		i.reject(s.lines[r.Index], asProblem(r.Err).Detail)
	}
	if s.err != nil {
		i.line = s.lines[len(s.lines)-1] // not how far we have read since
	}
	return s.err
}

func (i *importer) finish() error {
	if len(i.batch.rows) > 0 {
		if err := i.flush(); err != nil {
			return err
		}
	}
	return i.settle()
}

// readLine checks one line of an import.
func (s *Server) readLine(text []byte, d importDefaults) (belfry.Subscription, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return belfry.Subscription{}, jsonError(err)
	}
	if l.KeyID == "" {
		l.KeyID = d.keyID
	}
	if l.User == "" {
		l.User = d.user
	}
	if l.Origin != "" && !slices.Contains(s.Origins, l.Origin) {
		return belfry.Subscription{}, &belfry.Error{Kind: belfry.ErrInvalid, Code: "origin", Where: "origin", Text: "is not a site that this server rings for",
			Hint: "start the server with --origin for that site"}
	}
	r, err := l.PushSubscription.Check(s.Hosts)
	if err != nil {
		return r, err
	}
	channels, err := belfry.CheckChannels(append(l.Channels, d.channels...))
	if err != nil {
		return r, err
	}
	if err := errors.Join(belfry.CheckUser(l.User), belfry.CheckLocale(l.Locale), belfry.CheckTimeZone(l.TimeZone), l.Memory.Check()); err != nil {
		return r, err
	}
	if l.KeyID != "" { // else the store knows, or it is the current one
		if err := s.knownKey(l.KeyID); err != nil {
			return r, err
		}
	}
	r.Channels, r.User, r.Locale, r.TimeZone, r.Origin, r.KeyID, r.Memory, r.Imported = channels, l.User, l.Locale, l.TimeZone, l.Origin, l.KeyID, l.Memory, true
	return r, nil
}
