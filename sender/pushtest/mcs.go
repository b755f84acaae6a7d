package pushtest

import (
	"bufio"
	"context"
	"net"
	"sync"
	"time"
)

// A session is one connection of a Chromium, over which it speaks MCS.
type session struct {
	conn net.Conn
	in   *bufio.Reader
	out  *outbox
	now  func() time.Time

	mu   sync.Mutex // guards what follows, and the order of what is put into out
	sent []string   // by place in the stream, after the first base: ids of messages, "" for all else
	base int        // frames that were sent and acknowledged
}

// Acknowledgements and reasons in the ledger are Firefox's numbers, and Chromium
// gives fewer.
const (
	ackDelivered       = 100
	unregisteredByHand = 200
)

// loginTime is for a stranger to say who he is.
const loginTime = 10 * time.Second

// serveMCS speaks MCS with one Chromium, over a connection of which the TLS is done.
func (s *Service) serveMCS(conn net.Conn) {
	defer conn.Close()
	defer context.AfterFunc(s.alive, func() { conn.Close() })()
	c := &session{conn: conn, in: bufio.NewReader(conn), out: newOutbox(), now: s.now}
	ctx, cancel := context.WithCancel(s.alive)
	defer cancel()
	go func() {
		if c.out.drain(ctx, func(frame []byte) error { _, err := conn.Write(frame); return err }) != nil {
			conn.Close()
		}
	}()
	b := s.login(c)
	if b == nil {
		return
	}
	defer s.goodbye(b, c)
	for {
		f, err := readFrame(c.in)
		if err != nil || f.tag == closing {
			return
		}
		if s.hearMCS(b, c, f) != nil {
			return
		}
	}
}

// login reads the version and who it is, and sends what waits for it.
func (s *Service) login(c *session) *browser {
	c.conn.SetDeadline(time.Now().Add(loginTime))
	version, err := c.in.ReadByte()
	if err != nil || version != mcsVersion {
		return nil
	}
	f, err := readFrame(c.in)
	if err != nil || f.tag != loginRequest {
		return nil
	}
	request, err := readFields(f.body)
	if err != nil {
		return nil
	}
	c.conn.SetDeadline(time.Time{})
	var id, user, secret string
	var received []string
	for _, f := range request {
		switch f.number {
		case 1:
			id = string(f.octets)
		case 3:
			user = string(f.octets)
		case 5:
			secret = string(f.octets)
		case 10:
			received = append(received, string(f.octets))
		}
	}
	b := s.named(user + ":" + secret)
	for _, message := range received {
		s.acknowledged(b, message, ackDelivered)
	}
	answer := appendOctets(nil, 1, id)
	answer = appendNumber(answer, 6, 1) // stream_id
	answer = appendNumber(answer, 8, uint64(c.now().UnixMilli()))
	c.out.put([]byte{mcsVersion})
	c.send(frame{loginResponse, answer}, "")
	s.mu.Lock()
	s.arrive(b, c)
	s.mu.Unlock()
	s.ledger.touch()
	return b
}

// hearMCS acts on one frame of a Chromium that is logged in. Each may say how many
// of ours it has; which field that is depends on the kind.
func (s *Service) hearMCS(b *browser, c *session, f frame) error {
	fields, err := readFields(f.body)
	if err != nil {
		return err
	}
	lastReceived := map[byte]int{heartbeatPing: 2, heartbeatAck: 2, iqStanza: 10, dataMessage: 11}[f.tag]
	for _, field := range fields {
		if lastReceived != 0 && int(field.number) == lastReceived {
			for _, message := range c.acknowledged(field.value) {
				s.acknowledged(b, message, ackDelivered)
			}
		}
	}
	if f.tag == heartbeatPing {
		c.send(frame{tag: heartbeatAck}, "")
	}
	return nil
}

// acknowledged takes the ids of messages among the first n frames that we sent.
func (c *session) acknowledged(n uint64) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n <= uint64(c.base) || n > uint64(c.base+len(c.sent)) {
		return nil
	}
	upTo := int(n) - c.base
	var messages []string
	for _, id := range c.sent[:upTo] {
		if id != "" {
			messages = append(messages, id)
		}
	}
	c.sent, c.base = c.sent[upTo:], int(n)
	return messages
}

// send queues a frame that carries the message of that id, if any.
func (c *session) send(f frame, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sent = append(c.sent, message)
	c.out.put(f.append(nil))
}

// notify sends a message to the browser, and asks it to say at once that it has it.
func (c *session) notify(m *message) {
	now := c.now()
	stanza := appendOctets(nil, 2, m.id)
	stanza = appendOctets(stanza, 3, m.sub.key) // from: whom the page subscribed to
	stanza = appendOctets(stanza, 5, m.sub.channel.app)
	stanza = appendOctets(stanza, 6, m.sub.token)
	stanza = appendOctets(stanza, 7, appData("subtype", m.sub.channel.name))
	if len(m.body) > 0 {
		stanza = appendOctets(stanza, 7, appData("content-encoding", "aes128gcm"))
	}
	stanza = appendOctets(stanza, 9, m.id) // persistent_id: what it names at its next login
	stanza = appendNumber(stanza, 17, uint64(max(0, m.expires.Sub(now)/time.Second)))
	stanza = appendNumber(stanza, 18, uint64(now.UnixMilli()))
	if len(m.body) > 0 {
		stanza = appendOctets(stanza, 21, m.body)
	}
	stanza = appendNumber(stanza, 24, 1) // immediate_ack
	c.send(frame{dataMessage, stanza}, m.id)
}

func appData(key, value string) []byte {
	return appendOctets(appendOctets(nil, 1, key), 2, value)
}

// cut ends the connection without a word.
func (c *session) cut() { go c.conn.Close() }
