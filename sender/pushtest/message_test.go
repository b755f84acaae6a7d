package pushtest_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/belfry-push/belfry/sender/pushtest"
)

// What waits for a device that is away: the last of each topic, and nothing
// that is over. Two hundred scores of one match must not become two hundred
// notifications.
func TestMessagesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, site := pushtest.NewMemoryService(t), newSite(t)
		sub, other := service.Subscribe(""), service.Subscribe("")
		service.Leave(sub.Endpoint)
		deliver(t, service, site, sub, "first", "", "600")
		for i := range 200 {
			deliver(t, service, site, sub, fmt.Sprint(i), "score-00", "600")
		}
		deliver(t, service, site, sub, "another match", "score-01", "600")
		deliver(t, service, site, sub, "short", "", "60")
		deliver(t, service, site, sub, "now or never", "", "0")
		deliver(t, service, site, other, "not away", "", "600")
		time.Sleep(time.Minute)
		if got := fmt.Sprintf("%s", service.Return(sub.Endpoint)); got != "[first 199 another match]" {
			t.Errorf("returned to %s", got)
		}
		deliver(t, service, site, sub, "present", "", "600")
		if got := append(service.Return(sub.Endpoint), service.Return(other.Endpoint)...); len(got) != 0 {
			t.Errorf("what was taken at once waited: %s", got)
		}
	})
}

// A subscription that ends while a slow answer is on its way keeps nothing.
func TestMessageToWhatEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service, site := pushtest.NewMemoryService(t), newSite(t)
		sub := service.Subscribe("")
		service.Leave(sub.Endpoint)
		service.Answer(sub.Endpoint, pushtest.Answer{Delay: time.Second})
		time.AfterFunc(time.Millisecond, func() { service.End(sub.Endpoint) })
		deliver(t, service, site, sub, "hi", "", "600")
		if got := service.Return(sub.Endpoint); len(got) != 0 {
			t.Errorf("returned to %s", got)
		}
	})
}

// The Location of an accepted message takes it back, once.
func TestMessageWithdrawn(t *testing.T) {
	service, site := pushtest.NewMemoryService(t), newSite(t)
	sub := service.Subscribe("")
	service.Leave(sub.Endpoint)
	a := do(t, service.Client(), site.request(t, sub, "oops"))
	for _, want := range []int{204, 404} {
		r, err := http.NewRequestWithContext(t.Context(), "DELETE", a.header.Get("Location"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := do(t, service.Client(), r); got.status != want {
			t.Errorf("withdrawing was answered %d, want %d", got.status, want)
		}
	}
	if got := service.Return(sub.Endpoint); len(got) != 0 {
		t.Errorf("returned to %s", got)
	}
}
