//go:build !linux

package live

// hangups is for systems where nothing tells us that a page is gone: the next
// ping does, which it does not take.
type hangups struct{}

func watchHangups(<-chan struct{}) (*hangups, error) { return nil, nil }

func (*hangups) watch(*conn)  {}
func (*hangups) forget(*conn) {}
