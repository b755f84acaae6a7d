package keys_test

import (
	"strings"
	"testing"
)

// Who was not sent a message cannot say that it was clicked: every change of a
// link shows, and so does a key that is not ours or made for something else.
func TestClickLink(t *testing.T) {
	const id, other = "01aaaaaaaaaaaaaaaaaaaaaaaa", "01aaaaaaaaaaaaaaaaaaaaaaab"
	key := userKey(t, userText)
	link := key.ClickLink(id)
	// Computed with Python: HKDF-SHA256 without a salt, then HMAC-SHA256, cut to 16 octets.
	if want := id + ".FxGMiDIucA24xdydMFNGAQ"; link != want {
		t.Errorf("%s, want %s", link, want)
	}
	if got, ok := key.CheckClickLink(link); got != id || !ok {
		t.Errorf("%s is of %s: %v", link, got, ok)
	}
	stranger := userKey(t, strings.Replace(userText, "AAEC", "AAED", 1))
	for what, forged := range map[string]string{
		"nothing": "", "only an id": id, "no signature": id + ".", "another id": other + strings.TrimPrefix(link, id),
		"cut": link[:len(link)-1], "longer": link + "A", "padded": link + "==", "another key": stranger.ClickLink(id),
		"a line more": link + "\n", "other bits at the end": link[:len(link)-1] + string(link[len(link)-1]+1),
	} {
		if _, ok := key.CheckClickLink(forged); ok {
			t.Errorf("%s is taken: %q", what, forged)
		}
	}
	for i := range link {
		changed := []byte(link)
		changed[i] ^= 1
		if _, ok := key.CheckClickLink(string(changed)); ok {
			t.Errorf("%s is taken", changed)
		}
	}
}
