package main

import (
	"context"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/belfry-push/belfry"
	"github.com/belfry-push/belfry/broadcasts"
	"github.com/belfry-push/belfry/live"
	"github.com/belfry-push/belfry/receipts"
	"github.com/belfry-push/belfry/subscriptions"
)

// A meter counts what goes by. It stands where the rooms are joined, so that
// none of them knows of it. All counts are from the start of the server on.
//
// No label is a stranger's to choose: names are those of our lists, and no
// endpoint is among them (SEC-22).
type meter struct {
	registry *prometheus.Registry
	attempts *prometheus.CounterVec
	commits  *prometheus.CounterVec
	asked    sync.Map // push services that attempts were made to
	books
}

func newMeter() *meter {
	m := &meter{registry: prometheus.NewRegistry(), books: books{live: map[string]written{}, ended: map[broadcasts.State]int{}},
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "belfry_attempts_total", Help: "Requests to push services, by what their answers meant."}, []string{"push_service", "verdict"}),
		commits:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "belfry_commits_total", Help: "Transactions that write down what became of rows."}, []string{"result"})}
	m.registry.MustRegister(m.attempts, m.commits, &m.books, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, result := range []string{"done", "failed"} {
		m.commits.WithLabelValues(result) // nought is a number too: an alarm needs it
	}
	return m
}

// Books are what broadcasts came to, as it was written down. They are collected
// as of one moment, so that targets are what is pending and what is settled in
// every answer (REL-27).
type books struct {
	mu       sync.Mutex         // guards what follows
	live     map[string]written // broadcasts that have not ended, as they were last written down
	launched int
	ended    map[broadcasts.State]int
	counts   broadcasts.Counts // of all, without what was settled before the start; pending is in live
}

// written is what is remembered of a broadcast.
type written struct {
	state  broadcasts.State
	counts broadcasts.Counts
}

// begin takes up a broadcast of which what is pending is still to be done.
func (b *books) begin(one broadcasts.Broadcast) {
	b.live[one.ID] = written{one.State, one.Counts}
	b.counts.Targets += one.Counts.Pending
}

// results are the counts that a row ends in.
func results(c *broadcasts.Counts) map[string]*int {
	return map[string]*int{"accepted": &c.Accepted, "suppressed": &c.Suppressed, "expired": &c.Expired, "gone": &c.Gone,
		"left": &c.Left, "failed": &c.Failed, "cancelled": &c.Cancelled}
}

// book adds what has changed in a broadcast since it was last written down.
func (b *books) book(one broadcasts.Broadcast) {
	was, known := b.live[one.ID]
	if !known {
		return
	}
	sums, before := results(&b.counts), results(&was.counts)
	for result, now := range results(&one.Counts) {
		*sums[result] += *now - *before[result]
	}
	b.live[one.ID] = written{one.State, one.Counts}
	if one.Ended() {
		delete(b.live, one.ID)
		b.ended[one.State]++
	}
}

var (
	broadcastsDesc = prometheus.NewDesc("belfry_broadcasts", "Broadcasts that have not ended, by state.", []string{"state"}, nil)
	launchedDesc   = prometheus.NewDesc("belfry_broadcasts_launched_total", "Broadcasts that were written down.", nil, nil)
	endedDesc      = prometheus.NewDesc("belfry_broadcasts_ended_total", "Broadcasts that ended, by how.", []string{"state"}, nil)
	targetedDesc   = prometheus.NewDesc("belfry_rows_targeted_total", "Rows that broadcasts set out to ring: always those pending and those settled.", nil, nil)
	pendingDesc    = prometheus.NewDesc("belfry_rows_pending", "Rows of broadcasts that are not settled.", nil, nil)
	settledDesc    = prometheus.NewDesc("belfry_rows_settled_total", "Rows of broadcasts, by what became of them.", []string{"result"}, nil)
)

// Describe and Collect make books a prometheus.Collector.
func (b *books) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{broadcastsDesc, launchedDesc, endedDesc, targetedDesc, pendingDesc, settledDesc} {
		descs <- d
	}
}

func (b *books) Collect(to chan<- prometheus.Metric) {
	b.mu.Lock()
	defer b.mu.Unlock()
	tell := func(d *prometheus.Desc, kind prometheus.ValueType, n int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, kind, float64(n), labels...)
	}
	states, pending := map[broadcasts.State]int{}, 0
	for _, w := range b.live {
		states[w.state]++
		pending += w.counts.Pending
	}
	for _, state := range []broadcasts.State{broadcasts.Scheduled, broadcasts.Running, broadcasts.Paused} {
		tell(broadcastsDesc, prometheus.GaugeValue, states[state], string(state))
	}
	for _, state := range []broadcasts.State{broadcasts.Done, broadcasts.Cancelled} {
		tell(endedDesc, prometheus.CounterValue, b.ended[state], string(state))
	}
	tell(launchedDesc, prometheus.CounterValue, b.launched)
	tell(targetedDesc, prometheus.CounterValue, b.counts.Targets)
	tell(pendingDesc, prometheus.GaugeValue, pending)
	for result, n := range results(&b.counts) {
		tell(settledDesc, prometheus.CounterValue, *n, result)
	}
}

// A meteredSender counts attempts by push service and verdict.
type meteredSender struct {
	broadcasts.Sender
	*meter
	hosts belfry.PushHosts
}

func (s meteredSender) Send(ctx context.Context, to belfry.Subscription, m belfry.PushMessage) belfry.Outcome {
	name := s.hosts.Service(to.Host())
	s.asked.LoadOrStore(name, true)
	o := s.Sender.Send(ctx, to, m)
	s.attempts.WithLabelValues(name, o.Verdict.String()).Inc()
	return o
}

// A meteredJournal counts what is written down, and only that: what operators
// read in a broadcast is what its commits added here.
type meteredJournal struct {
	broadcasts.Journal
	*meter
}

// Unfinished is where broadcasts come from that an earlier process began.
func (j meteredJournal) Unfinished(ctx context.Context, holder string, now time.Time) (list []broadcasts.Broadcast, damaged []string, err error) {
	list, damaged, err = j.Journal.Unfinished(ctx, holder, now)
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, b := range list {
		if _, known := j.live[b.ID]; !known {
			j.begin(b)
		}
	}
	return list, damaged, err
}

func (j meteredJournal) Create(ctx context.Context, b broadcasts.Broadcast, c *broadcasts.Claim) (broadcasts.Broadcast, error) {
	made, err := j.Journal.Create(ctx, b, c)
	if err == nil && made.ID == b.ID {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.begin(b)
		j.launched++
	}
	return made, err
}

func (j meteredJournal) Commit(ctx context.Context, changes []broadcasts.Change, gone []belfry.Subscription) error {
	if err := j.Journal.Commit(ctx, changes, gone); err != nil {
		j.commits.WithLabelValues("failed").Inc()
		return err
	}
	j.commits.WithLabelValues("done").Inc()
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, c := range changes {
		j.book(c.Broadcast)
	}
	return nil
}

// A laneCollector tells how it stands with the push services that broadcasts are
// on their way to.
type laneCollector struct {
	*broadcasts.Engine
	*meter
	hosts belfry.PushHosts
}

var (
	lanesDesc    = prometheus.NewDesc("belfry_lanes", "Hosts of push services that broadcasts are on their way to, by how it stands with them.", []string{"push_service", "state"}, nil)
	inFlightDesc = prometheus.NewDesc("belfry_attempts_in_flight", "Requests to push services that have no answer yet.", []string{"push_service"}, nil)
	queuedDesc   = prometheus.NewDesc("belfry_rows_queued", "Rows in memory that wait until a request to their push service may begin.", []string{"push_service"}, nil)
	paceDesc     = prometheus.NewDesc("belfry_pace", "Requests that may begin in a second, where that is bounded.", []string{"push_service"}, nil)
)

func (c laneCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{lanesDesc, inFlightDesc, queuedDesc, paceDesc} {
		descs <- d
	}
}

func (c laneCollector) Collect(to chan<- prometheus.Metric) {
	tell := func(d *prometheus.Desc, n float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	for name, s := range c.services() {
		for _, state := range []string{"open", "waiting", "paused"} {
			tell(lanesDesc, float64(s.states[state]), name, state)
		}
		tell(inFlightDesc, float64(s.flying), name)
		tell(queuedDesc, float64(s.queued), name)
		if s.pace > 0 && !math.IsInf(s.pace, 1) { // JSON has no number for that
			tell(paceDesc, s.pace, name)
		}
	}
}

// A service is the sum of all hosts of a push service.
type service struct {
	states         map[string]int
	flying, queued int
	pace           float64
}

// services sums up by push service. One that was asked once goes on to be told of:
// a gauge that vanishes is not seen to have come back to nought. Names are those
// of our list, so there are only so many.
func (c laneCollector) services() map[string]*service {
	all := map[string]*service{}
	of := func(name string) *service {
		if all[name] == nil {
			all[name] = &service{states: map[string]int{}}
		}
		return all[name]
	}
	for name := range c.asked.Range {
		of(name.(string))
	}
	for _, one := range c.Standings() {
		s := of(c.hosts.Service(one.Host))
		s.states[one.State]++
		s.flying += one.InFlight
		s.queued += one.Waiting
		s.pace += one.Pace
	}
	return all
}

// A rowCollector tells how many are registered.
type rowCollector struct{ *subscriptions.Store }

var (
	rowsDesc  = prometheus.NewDesc("belfry_subscriptions", "Subscriptions that are registered.", nil, nil)
	markDesc  = prometheus.NewDesc("belfry_subscriptions_marked", "Subscriptions that their push services have let us know something of, by what.", []string{"mark"}, nil)
	byKeyDesc = prometheus.NewDesc("belfry_subscriptions_by_key", "Subscriptions that are registered, by the VAPID key that they were made with.", []string{"key"}, nil)
)

func (c rowCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- rowsDesc
	descs <- byKeyDesc
	descs <- markDesc
}

func (c rowCollector) Collect(to chan<- prometheus.Metric) {
	ctx := context.Background()
	n, err := c.Count(ctx, belfry.Audience{All: true})
	if err != nil {
		to <- prometheus.NewInvalidMetric(rowsDesc, err)
		return
	}
	to <- prometheus.MustNewConstMetric(rowsDesc, prometheus.GaugeValue, float64(n))
	marks, err := c.Marks(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(markDesc, err)
	}
	for mark, n := range marks {
		to <- prometheus.MustNewConstMetric(markDesc, prometheus.GaugeValue, float64(n), mark)
	}
	uses, err := c.Keys(ctx)
	if err != nil {
		to <- prometheus.NewInvalidMetric(byKeyDesc, err)
	}
	for id, n := range uses {
		to <- prometheus.MustNewConstMetric(byKeyDesc, prometheus.GaugeValue, float64(n), strings.ToValidUTF8(id, "?")) // a count may be damaged
	}
}

// A liveCollector tells how many pages listen.
type liveCollector struct{ *live.Hub }

var (
	listenersDesc    = prometheus.NewDesc("belfry_live_connections", "Pages that listen now.", nil, nil)
	visibleDesc      = prometheus.NewDesc("belfry_live_visible", "Pages among them that somebody looks at, as they say.", nil, nil)
	eventsDesc       = prometheus.NewDesc("belfry_live_events_total", "Events that were published to pages.", nil, nil)
	acknowledgedDesc = prometheus.NewDesc("belfry_live_acknowledged_total", "Messages that pages of registered browsers say they have shown.", nil, nil)
	slowDesc         = prometheus.NewDesc("belfry_live_slow_total", "Pages that were sent away since they read too slowly.", nil, nil)
)

func (c liveCollector) Describe(descs chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{listenersDesc, visibleDesc, eventsDesc, acknowledgedDesc, slowDesc} {
		descs <- d
	}
}

func (c liveCollector) Collect(to chan<- prometheus.Metric) {
	s := c.Stats()
	to <- prometheus.MustNewConstMetric(listenersDesc, prometheus.GaugeValue, float64(s.Connections))
	to <- prometheus.MustNewConstMetric(visibleDesc, prometheus.GaugeValue, float64(s.Visible))
	to <- prometheus.MustNewConstMetric(eventsDesc, prometheus.CounterValue, float64(s.Events))
	to <- prometheus.MustNewConstMetric(acknowledgedDesc, prometheus.CounterValue, float64(s.Acknowledged))
	to <- prometheus.MustNewConstMetric(slowDesc, prometheus.CounterValue, float64(s.Slow))
}

// A receiptCollector tells what browsers said became of messages. Unlike all other
// counts these are on disk, and go on where they were.
type receiptCollector struct{ *receipts.Store }

// channelsTold bounds how many channels have counts of their own: a site may have
// one for each of its users, and every label costs whoever collects them.
const channelsTold = 200

var (
	receiptsDesc        = prometheus.NewDesc("belfry_receipts_total", "What browsers said became of messages, each counted once, since ever.", []string{"kind"}, nil)
	channelReceiptsDesc = prometheus.NewDesc("belfry_channel_receipts_total", "The same of messages to a channel, for the first 200 channels by name.", []string{"channel", "kind"}, nil)
)

func (c receiptCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- receiptsDesc
	descs <- channelReceiptsDesc
}

func (c receiptCollector) Collect(to chan<- prometheus.Metric) {
	all, channels, err := c.Totals(context.Background(), channelsTold)
	if err != nil {
		to <- prometheus.NewInvalidMetric(receiptsDesc, err)
		return
	}
	for kind, n := range byKind(all) {
		to <- prometheus.MustNewConstMetric(receiptsDesc, prometheus.CounterValue, float64(n), kind)
	}
	for channel, counts := range channels {
		for kind, n := range byKind(counts) {
			to <- prometheus.MustNewConstMetric(channelReceiptsDesc, prometheus.CounterValue, float64(n), strings.ToValidUTF8(channel, "?"), kind)
		}
	}
}

func byKind(c receipts.Counts) map[string]int {
	return map[string]int{"shown": c.Shown, "clicked": c.Clicked, "closed": c.Closed}
}
