package web

import (
	"context"
	"errors"
	"net/http"
	"testing"

	"github.com/belfry-push/belfry"
)

// A rebuild must be meant, and a doctor who could not look must not be taken for
// one who found nothing.
func TestDoctor(t *testing.T) {
	var rebuilt []bool
	var err error
	h := newHouse(t, func(c *Config) {
		c.Doctor = func(_ context.Context, rebuild bool) (belfry.Checkup, error) {
			rebuilt = append(rebuilt, rebuild)
			return belfry.Checkup{Looked: []belfry.Looked{{What: "tokens", Count: 3}}}, err
		}
	})
	for _, path := range []string{"/api/v1/doctor", "/api/v1/doctor?rebuild=1"} {
		if got := h.do(h.socket, "POST", path, ""); got.status != http.StatusOK || got.body != `{"checked":[{"what":"tokens","count":3}],"findings":[]}` {
			t.Errorf("%s: %d %s", path, got.status, got.body)
		}
	}
	if got := h.do(h.socket, "POST", "/api/v1/doctor?rebuild=no", ""); got.code() != "rebuild" || len(rebuilt) != 2 || rebuilt[0] || !rebuilt[1] {
		t.Errorf("rebuild=no: %d %s; rebuilt %v", got.status, got.body, rebuilt)
	}
	err = errors.New("disk")
	if got := h.do(h.socket, "POST", "/api/v1/doctor", ""); got.status != http.StatusInternalServerError {
		t.Errorf("when it cannot look: %d %s", got.status, got.body)
	}
}
