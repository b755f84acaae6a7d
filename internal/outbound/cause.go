package outbound

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
)

// Cause sorts what goes wrong under way into few words, for counting.
func Cause(err error) string {
	if errors.Is(err, ErrAddress) {
		return "its address is not public"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not trusted"
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
	if strings.Contains(err.Error(), "tls: ") { // most of that package's errors have no type
		return "no secure connection came about"
	}
	return "the connection broke"
}
