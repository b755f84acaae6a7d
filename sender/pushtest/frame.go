package pushtest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// A frame is one message of MCS, the protocol between Chromium and Google's
// push service: a tag that says what it is, and a protobuf message, of which we
// read and write the few fields that we need.
type frame struct {
	tag  byte
	body []byte
}

// The kinds of frames.
const (
	heartbeatPing = 0
	heartbeatAck  = 1
	loginRequest  = 2
	loginResponse = 3
	closing       = 4
	iqStanza      = 7
	dataMessage   = 8
)

// mcsVersion is the first octet in each direction.
const mcsVersion = 41

var errFrameSize = errors.New("pushtest: a frame of MCS longer than we take")

// readFrame reads a tag, a length and as many octets.
func readFrame(r *bufio.Reader) (frame, error) {
	tag, err := r.ReadByte()
	if err != nil {
		return frame{}, err
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return frame{}, err
	}
	if size > maxFrame {
		return frame{}, errFrameSize
	}
	body := make([]byte, size)
	_, err = io.ReadFull(r, body)
	return frame{tag, body}, err
}

func (f frame) append(b []byte) []byte {
	b = append(b, f.tag)
	b = binary.AppendUvarint(b, uint64(len(f.body)))
	return append(b, f.body...)
}

// A field is one field of a protobuf message: a number where it is one, else octets.
type field struct {
	number protowire.Number
	value  uint64
	octets []byte
}

// readFields takes a message apart. The octets of fields are its own.
func readFields(b []byte) ([]field, error) {
	var all []field
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		f := field{number: number}
		switch kind {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			f.value, n = protowire.ConsumeFixed64(b)
		case protowire.BytesType:
			f.octets, n = protowire.ConsumeBytes(b)
		default: // none of what we read
			n = protowire.ConsumeFieldValue(number, kind, b)
		}
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		b = b[n:]
		all = append(all, f)
	}
	return all, nil
}

func appendNumber(b []byte, number protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.VarintType), v)
}

func appendFixed(b []byte, number protowire.Number, v uint64) []byte {
	return protowire.AppendFixed64(protowire.AppendTag(b, number, protowire.Fixed64Type), v)
}

func appendOctets[T string | []byte](b []byte, number protowire.Number, v T) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), []byte(v))
}
