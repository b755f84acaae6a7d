package h2

import (
	"strconv"
	"time"

	"golang.org/x/net/http2"
)

// take does what a frame says. An error ends the connection.
func (c *conn) take(frame http2.Frame) error {
	settings, ok := frame.(*http2.SettingsFrame)
	switch {
	case ok && !settings.IsAck():
		return c.takeSettings(settings)
	case !c.greeted: // RFC 9113 §3.4
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if frame.Header().Type != http2.FramePing {
		c.spoke = time.Since(c.birth)
	}
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return c.takeHeader(f)
	case *http2.DataFrame:
		return c.takeData(f)
	case *http2.RSTStreamFrame:
		c.takeReset(f)
	case *http2.WindowUpdateFrame:
		return c.takeWindow(f)
	case *http2.GoAwayFrame:
		c.takeGoAway(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.frames.WritePing(true, f.Data)
		}
	case *http2.PushPromiseFrame: // which our settings forbid (RFC 9113 §6.5.2)
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

// takeSettings does as the server wishes. What is not among these, such as how
// long a header may be, it will say again where it matters.
func (c *conn) takeSettings(f *http2.SettingsFrame) error {
	places := -1
	if !c.greeted {
		places = usualPlaces
	}
	c.mu.Lock()
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingMaxConcurrentStreams:
			places = int(min(s.Val, mostPlaces))
		case http2.SettingMaxFrameSize:
			c.frame = int(s.Val)
		case http2.SettingHeaderTableSize:
			c.encoder.SetMaxDynamicTableSize(min(s.Val, tableSize))
		case http2.SettingInitialWindowSize:
			return c.setInitial(int64(s.Val))
		}
		return nil
	})
	if err == nil {
		err = c.frames.WriteSettingsAck()
		c.pushHeld() // behind it (RFC 9113 §6.5.3)
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if places >= 0 {
		c.server.allow(c, places)
	}
	if !c.greeted {
		c.greeted = true
		close(c.ready)
	}
	return nil
}

// setInitial changes the window of streams that are open, too, which may make it
// negative (RFC 9113 §6.9.2).
func (c *conn) setInitial(window int64) error {
	for _, st := range c.streams {
		if st.window += window - c.initial; st.window > mostWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
	}
	c.initial = window
	return nil
}

func (c *conn) takeWindow(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if c.window += int64(f.Increment); c.window > mostWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.pushHeld()
	} else if st := c.streams[f.StreamID]; st != nil {
		if st.window += int64(f.Increment); st.window > mostWindow {
			c.breakOff(st.id, http2.StreamError{StreamID: st.id, Code: http2.ErrCodeFlowControl})
		}
		c.pushHeld()
	}
	return nil
}

// known returns the stream of a frame; nil where we have ended it. A frame of one
// that never was ends the connection (RFC 9113 §5.1).
func (c *conn) known(id uint32) (*stream, error) {
	if id%2 == 0 || id >= c.next {
		return nil, http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return c.streams[id], nil
}

// takeHeader takes the head of an answer, or what may stand after its body.
func (c *conn) takeHeader(f *http2.MetaHeadersFrame) error {
	st, err := c.known(f.StreamID)
	if st == nil {
		return err
	}
	if st.status == 0 {
		status, err := strconv.Atoi(f.PseudoValue("status"))
		interim := status/100 == 1 && status != 101
		if interim {
			st.interim++
		}
		switch {
		case err != nil || status < 100 || status > 999 || status == 101 || interim && f.StreamEnded() || st.interim > mostInterim:
			c.breakOff(st.id, http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol})
			return nil
		case interim: // there is more to come (RFC 9113 §8.1)
			return nil
		}
		st.status, st.header = status, header(f.RegularFields())
	} else if !f.StreamEnded() { // nothing comes behind what comes behind the body (RFC 9113 §8.1)
		c.breakOff(st.id, http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol})
	}
	if f.StreamEnded() {
		c.finish(st)
	}
	return nil
}

// takeData takes a part of an answer's body. What is longer than we want to see
// is cut off, and costs no connection.
func (c *conn) takeData(f *http2.DataFrame) error {
	if c.credit += f.Length; c.credit >= usualWindow/2 {
		if err := c.frames.WriteWindowUpdate(0, c.credit); err != nil {
			return err
		}
		c.credit = 0
	}
	st, err := c.known(f.StreamID)
	if st == nil {
		return err
	}
	if st.status == 0 {
		c.breakOff(st.id, http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol})
		return nil
	}
	data := f.Data()
	st.body = append(st.body, data[:min(len(data), c.cfg.Answer-len(st.body))]...)
	st.taken += int(f.Length)
	switch {
	case f.StreamEnded():
		c.finish(st)
	case st.taken >= c.cfg.Answer: // with its padding: the window that it has
		c.frames.WriteRSTStream(st.id, http2.ErrCodeCancel)
		c.end(st, nil)
	}
	return nil
}

// finish ends a stream with its answer. A server may answer before it has all of
// the request, and wants no more of it then (RFC 9113 §8.1).
func (c *conn) finish(st *stream) {
	if len(st.rest) > 0 {
		c.frames.WriteRSTStream(st.id, http2.ErrCodeCancel)
	}
	c.end(st, nil)
}

// takeReset ends a stream as the server wants it. One that it refused it has not
// looked at (RFC 9113 §8.7).
func (c *conn) takeReset(f *http2.RSTStreamFrame) {
	st := c.streams[f.StreamID]
	switch {
	case st == nil:
	case f.ErrCode == http2.ErrCodeRefusedStream:
		c.end(st, errUnbegun)
	default:
		c.end(st, http2.StreamError{StreamID: st.id, Code: f.ErrCode})
	}
}

// breakOff ends a stream with which something is wrong.
func (c *conn) breakOff(id uint32, why http2.StreamError) {
	c.frames.WriteRSTStream(id, why.Code)
	if st := c.streams[id]; st != nil {
		c.end(st, why)
	}
}

// takeGoAway lets the streams end that the server has begun on, and the others
// look for another connection (RFC 9113 §6.8), unless the server complains: then
// to come again at once would be worse. It may come twice, the first time only to
// announce itself.
func (c *conn) takeGoAway(f *http2.GoAwayFrame) {
	why, unbegun := errGoing, errUnbegun
	if f.ErrCode != http2.ErrCodeNo {
		why = complaint(f.ErrCode)
		unbegun = why
	}
	c.retire(why)
	for id, st := range c.streams {
		if id > f.LastStreamID {
			c.end(st, unbegun)
		}
	}
}

// takeBroken ends the stream of a frame that nobody can read.
func (c *conn) takeBroken(broken http2.StreamError) error {
	if !c.greeted {
		return broken
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	st, err := c.known(broken.StreamID)
	if st != nil {
		c.breakOff(st.id, broken)
	}
	return err
}
