package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
)

// Cause sorts what goes wrong under way into few words, for counting.
func Cause(err error) string {
	if errors.Is(err, ErrAddress) {
		return "its address is not public"
	}
	if untrusted, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return certificate(untrusted.Err)
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "its name was not found"
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer within 10 seconds"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		return "it cannot be reached"
	}
	if slow, ok := errors.AsType[net.Error](err); ok && slow.Timeout() { // net/http's own limit of a handshake
		return "no answer within 10 seconds"
	}
	if strings.Contains(err.Error(), "tls: ") { // most of that package's errors have no type
		return "no secure connection came about"
	}
	return "the connection broke"
}

// certificate says what is wrong with one, since the way out differs: to wait
// for its owner, to look who answers there, or to set our own clock (REL-06).
func certificate(err error) string {
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "its certificate has expired or is not valid yet"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "its certificate is for another host"
	}
	return "its certificate is not trusted"
}
