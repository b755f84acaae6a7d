package main

import (
	"testing"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/internal/config"
)

// A browser vendor who meets us for the first time is not met by all we can; a
// push service that an operator has opened is.
func TestFirstPace(t *testing.T) {
	hosts, err := belfry.NewPushHosts([]string{"push.example", "other.example:8443", "http://127.0.0.1:8090", "http://127.0.0.1", "updates.push.services.mozilla.com=127.0.0.1:9"})
	if err != nil {
		t.Fatal(err)
	}
	h := &house{cfg: config.Serve{PushHosts: hosts}}
	for host, want := range map[string]float64{
		"fcm.googleapis.com": 200, "web.push.apple.com": 200, "updates.push.services.mozilla.com": 0,
		"push.example": 0, "push.example:8443": 200, "other.example": 200, "other.example:8443": 0, "127.0.0.1:8090": 0, "127.0.0.1": 0,
	} {
		if got := h.firstPace(host); got != want {
			t.Errorf("%s: %v a second, want %v", host, got, want)
		}
	}
}
