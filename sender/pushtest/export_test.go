package pushtest

import "net"

// OpenContent decrypts a body of the content coding alone (RFC 8188), with any
// keyid and any number of records, for the examples of that RFC.
func OpenContent(body, ikm []byte) (plain, keyID []byte, err error) {
	c, err := readContent(body)
	if err != nil {
		return nil, nil, err
	}
	plain, err = c.open(ikm)
	return plain, c.keyID, err
}

// Note writes an entry into the ledger as a request would.
func (s *Service) Note(r Received) { s.ledger.note(r) }

// DialMCS is a connection to Chromium's door, behind the TLS.
func (s *Service) DialMCS() net.Conn {
	ours, theirs := net.Pipe()
	go s.serveMCS(theirs)
	return ours
}
