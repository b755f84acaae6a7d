package live

import (
	"bytes"
	"encoding/json"
	"sync"
	"time"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/boltfile"
)

// A record is an event as it is kept. What a page gets is made of it; whose
// pages hear it is nobody's business but for the channels.
type record struct {
	ID       string          `json:"id"`
	Time     time.Time       `json:"time"`
	Audience belfry.Audience `json:"audience"`
	Message  json.RawMessage `json:"message"`
}

// An entry is an event with its place in the log, and in all the forms in which
// it leaves: each is made once, by the first page that needs it.
type entry struct {
	seq     uint64
	message string // id
	groups  []group
	urgent  bool   // whom it is for is rung at once; not of one that was read
	record  []byte // as it is written; nil once it was read
	before  []byte // the JSON for pages, up to the cursor
	behind  []byte // and from there on

	forms [formats]struct {
		once sync.Once
		text []byte
	}
}

// newEntry makes the entry of an event that has no number yet.
func newEntry(e belfry.Event) (*entry, error) {
	message, err := compact(e.Message)
	if err != nil {
		return nil, err
	}
	r := record{e.ID, e.Time.UTC().Truncate(time.Millisecond), e.Audience, message}
	sealed, err := boltfile.Seal(r)
	if err != nil {
		return nil, err
	}
	entry, err := r.entry(0)
	if err == nil {
		entry.record, entry.urgent = sealed, e.Message.Urgency == belfry.UrgencyHigh
	}
	return entry, err
}

// maxEvent bounds an event, in octets: less than what may wait for a slow page,
// and twice a launch, which is the most that one becomes where each of its
// characters is one that we write longer than others may.
const maxEvent = 32 << 10

func (r record) entry(seq uint64) (*entry, error) {
	before, err := compact(struct {
		ID       string   `json:"id"`
		Channels []string `json:"channels"`
		Time     string   `json:"time"`
	}{r.ID, append([]string{}, r.Audience.Channels...), r.Time.Format("2006-01-02T15:04:05.000Z")})
	if err != nil {
		return nil, err
	}
	e := &entry{seq: seq, message: r.ID, groups: groupsOf(r.Audience)}
	e.before = append(before[:len(before)-1], `,"cursor":"`...)
	e.behind = append(append([]byte(`","message":`), r.Message...), '}')
	return e, nil
}

// compact is JSON in one line. "<" stays what it is: nothing here becomes HTML.
func compact(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// json is the event as pages read it.
func (e *entry) json(epoch string) []byte {
	cursor := cursorAt(epoch, e.seq)
	b := make([]byte, 0, len(e.before)+len(cursor)+len(e.behind))
	return append(append(append(b, e.before...), cursor...), e.behind...)
}

// form is the event in one of its forms. All who get it share the octets.
func (e *entry) form(f Format, epoch string) []byte {
	made := &e.forms[f]
	made.once.Do(func() { made.text = f.event(cursorAt(epoch, e.seq), e.json(epoch)) })
	return made.text
}
