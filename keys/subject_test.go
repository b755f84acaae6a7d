package keys_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/keys"
)

// A subject that Apple refuses looks well until the first iPhone subscribes,
// and then nobody with one hears anything (WP-45, PS-22).
func TestCheckSubjectRefuses(t *testing.T) {
	tests := []struct{ subject, want string }{
		{"", "empty"},
		{" ", "space"},
		{"mailto: ops@example.com", "space"},
		{"mailto:ops@example.com ", "space"},
		{"mailto:ops@example.com\n", "space"},
		{"mailto:<ops@example.com>", "bracket"},
		{"<mailto:ops@example.com>", "bracket"},
		{`mailto:"ops"@example.com`, "quote"},
		{"mailto:óps@example.com", "beyond ASCII"},
		{"mailto:mailto:ops@example.com", "twice"},
		{"mailto:MAILTO:ops@example.com", "twice"},
		{"https://mailto:ops@example.com", "not the address of a page"},
		{"mailto:", "not a mail address"},
		{"mailto:ops", "not a mail address"},
		{"mailto:@example.com", "not a mail address"},
		{"mailto:a@b@example.com", "not a mail address"},
		{"mailto:a@example.com,b@example.com", "not a mail address"},
		{"mailto:.ops@example.com", "not a mail address"},
		{"mailto:ops@example..com", "not a mail address"},
		{"mailto:(x)ops@example.com", "not a mail address"},
		{"mailto:ops@example.com?subject=push", "not a host name"},
		{"mailto:ops@-example.com", "not a host name"},
		{"mailto:ops@exam_ple.com", "not a host name"},
		{"mailto:ops@example", "no dot"},
		{"mailto:ops@localhost", "outside your network"},
		{"mailto:ops@mail.localhost", "outside your network"},
		{"mailto:ops@printer.local", "outside your network"},
		{"mailto:ops@PRINTER.LOCAL", "outside your network"},
		{"mailto:ops@example.invalid", "outside your network"},
		{"mailto:ops@example.test", "outside your network"},
		{"mailto:ops@192.0.2.1", "not a name"},
		{"mailto:ops@[192.0.2.1]", "not a name"},
		{"ops@example.com", "neither"},
		{"MAILTO:ops@example.com", "neither"},
		{"http://example.com", "neither"},
		{"https:example.com", "neither"},
		{"https:/example.com", "neither"},
		{"tel:+431234", "neither"},
		{"https://", "no dot"},
		{"https:///contact", "no dot"},
		{"https://localhost", "outside your network"},
		{"https://localhost:8080/contact", "outside your network"},
		{"https://intranet/contact", "no dot"},
		{"https://ring.local/", "outside your network"},
		{"https://192.0.2.1/", "not a name"},
		{"https://[2001:db8::1]/", "not a name"},
		{"https://0x7f.1/", "not a name"},
		{"https://example.com./", "not a host name"},
		{"https://user:pw@example.com/", "not the address of a page"},
		{"https://example.com:x/", "not the address of a page"},
		{"https://example.com/" + strings.Repeat("a", 90), "longer"},
		{"https://example.com/?" + strings.Repeat("&", 20), "longer"}, // six octets each in JSON
	}
	for _, tt := range tests {
		err := keys.CheckSubject(tt.subject)
		var told *belfry.Error
		if !errors.As(err, &told) || !errors.Is(err, belfry.ErrInvalid) || told.Code != "subject" || told.Where != "--subject" {
			t.Errorf("%q: got %v", tt.subject, err)
			continue
		}
		if !strings.Contains(told.Text, tt.want) {
			t.Errorf("%q: %q does not say %q", tt.subject, told.Text, tt.want)
		}
		// Whoever tests with Chrome alone does not believe a rule without its reason.
		if !strings.Contains(told.Text, "Apple refuses") || !strings.Contains(told.Hint, "https://") {
			t.Errorf("%q: the operator does not learn why, or what to do: %q, hint %q", tt.subject, told.Text, told.Hint)
		}
	}
}

// A refusal of what Apple accepts keeps a good server from starting.
func TestCheckSubjectAccepts(t *testing.T) {
	for _, subject := range []string{
		"mailto:ops@example.com",
		"mailto:push@example.com",
		"mailto:first.last+push@mail.example.co.uk",
		"mailto:ops@xn--bcher-kva.example.com",
		"mailto:OPS@Example.COM",
		"https://example.com",
		"https://www.example.com/contact",
		"https://example.com:8443/contact?from=push#top",
		"https://" + strings.Repeat("a", 63) + ".example.com/" + strings.Repeat("b", 16), // the longest
	} {
		if err := keys.CheckSubject(subject); err != nil {
			t.Errorf("%q: %v", subject, err)
		}
	}
}
