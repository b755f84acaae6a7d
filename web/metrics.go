package web

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// counts are what the front door counts.
type counts struct {
	registrations *prometheus.CounterVec
	watchers      prometheus.Gauge
}

func newCounts(r *prometheus.Registry) counts {
	c := counts{
		registrations: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "belfry_registrations_total",
			Help: "What browsers that register were answered: created, updated, or the code of the error."}, []string{"result"}),
		watchers: prometheus.NewGauge(prometheus.GaugeOpts{Name: "belfry_watchers",
			Help: "Streams of progress that somebody reads."}),
	}
	r.MustRegister(c.registrations, c.watchers)
	return c
}

// counted counts how registrations end. The codes of errors are a closed list,
// so that no stranger can make a label.
func (s *Server) counted(register func(*gin.Context) error) func(*gin.Context) error {
	return func(c *gin.Context) error {
		err := register(c)
		result := "created"
		if err != nil {
			result = asProblem(err).Code
		} else if c.Writer.Status() == http.StatusOK {
			result = "updated"
		}
		s.counts.registrations.WithLabelValues(result).Inc()
		return err
	}
}

// metrics answers Prometheus.
func (s *Server) metrics(c *gin.Context) error {
	promhttp.HandlerFor(s.Metrics, promhttp.HandlerOpts{}).ServeHTTP(c.Writer, c.Request)
	return nil
}

// A stat is one number of ours.
type stat struct {
	Name   string            `json:"name"`
	Labels map[string]string `json:"labels"`
	Value  float64           `json:"value"`
}

// stats answers our own numbers among the metrics, for who has no Prometheus.
func (s *Server) stats(c *gin.Context) error {
	families, err := s.Metrics.Gather()
	if err != nil {
		return err
	}
	var items []stat
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "belfry_") {
			continue
		}
		for _, m := range f.GetMetric() {
			one := stat{f.GetName(), map[string]string{}, m.GetGauge().GetValue() + m.GetCounter().GetValue()} // it is one of the two
			for _, l := range m.GetLabel() {
				one.Labels[l.GetName()] = l.GetValue()
			}
			items = append(items, one)
		}
	}
	answerAll(c, items)
	return nil
}
