package pushtest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// Whatever comes over Chromium's connection, a frame is read whole or not at
// all, and one that was read is written as it was.
func FuzzFrame(f *testing.F) {
	login := appendOctets(appendOctets(appendOctets(nil, 3, "1"), 5, "2"), 10, "message")
	f.Add(frame{loginRequest, login}.append(nil))
	f.Add(frame{tag: heartbeatPing}.append(nil))
	f.Add(frame{iqStanza, appendNumber(nil, 10, 1)}.append(nil))
	f.Add([]byte{8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add([]byte{8, 3, 0x0b, 0x0b, 0x0c})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readFrame(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		again, err := readFrame(bufio.NewReader(bytes.NewReader(got.append(nil))))
		if err != nil || again.tag != got.tag || !bytes.Equal(again.body, got.body) || len(got.body) > maxFrame {
			t.Errorf("%x came back as %x: %v", got, again, err)
		}
		fields, err := readFields(got.body)
		if err != nil {
			return
		}
		size := 0
		for _, field := range fields {
			if size += protowire.SizeTag(field.number); field.number < 1 {
				t.Errorf("field %d", field.number)
			}
			size += len(field.octets)
		}
		if size > len(got.body) {
			t.Errorf("%d octets of fields in %d", size, len(got.body))
		}
	})
}

// A Chromium that says anything at all is heard to the end: it can neither break
// the service nor stay in it.
func FuzzMCS(f *testing.F) {
	login := append([]byte{mcsVersion}, frame{loginRequest, appendOctets(appendOctets(nil, 3, "1"), 5, "2")}.append(nil)...)
	f.Add(login)
	f.Add(frame{iqStanza, appendNumber(nil, 10, 1)}.append(login))
	f.Add(frame{iqStanza, appendNumber(nil, 10, 1<<63)}.append(login))
	f.Add(frame{dataMessage, appendNumber(nil, 11, 2)}.append(frame{tag: heartbeatPing}.append(login)))
	f.Fuzz(func(t *testing.T, said []byte) {
		service := NewMemoryService(t)
		ours, theirs := net.Pipe()
		heard := make(chan struct{})
		go func() {
			service.serveMCS(theirs)
			close(heard)
		}()
		go func() {
			for b := make([]byte, 1024); ; {
				if _, err := ours.Read(b); err != nil {
					return
				}
			}
		}()
		ours.Write(said)
		ours.Close()
		<-heard
		if sum := service.Summary(); sum.Browsers != 0 {
			t.Errorf("left behind: %+v", sum)
		}
	})
}

// The same for a Firefox and the messages of autopush's protocol.
func FuzzAutopush(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"messageType":"hello","use_webpush":true}`, `{"messageType":"register","channelID":"c","key":"AAAA"}`,
		`{"messageType":"unregister","channelID":"c","code":200}`, `{"messageType":"nack","version":"v","code":302}`,
		`{"messageType":"ack","updates":[{"channelID":"c","version":"v","code":100}]}`, `[]`, `null`, `{"messageType":7}`,
		`{"messageType":"broadcast_subscribe","broadcasts":{"a":"b"}}`, `{"messageType":"register","channelID":"\u0000","key":"="}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		var m fromFirefox
		if json.Unmarshal(said, &m) != nil {
			return
		}
		service := NewMemoryService(t)
		c := &socket{out: newOutbox()}
		service.mu.Lock()
		b := service.meet("uaid")
		service.arrive(b, c)
		service.mu.Unlock()
		service.hear(b, c, m)
		for _, frame := range c.out.queue {
			if !json.Valid(frame) {
				t.Errorf("%q was answered %q", said, frame)
			}
		}
		if wanted := m.Type == "" || m.Type == "register" || m.Type == "unregister"; wanted != (len(c.out.queue) == 1) {
			t.Errorf("%q was answered %q", said, c.out.queue)
		}
		if service.Summary().Subscriptions != len(b.channels) {
			t.Errorf("%d channels and %+v", len(b.channels), service.Summary())
		}
	})
}
