package broadcasts

import "github.com/belfry-push/belfry"

// Wiped is what a journal keeps of a launch once its broadcast has ended: by
// what an operator knows it again, title, tag and topic, and how it was sent,
// but not what people were told (SEC-25), nor the secret in its callback.
func (l Launch) Wiped() Launch {
	m := l.Message
	l.Message = belfry.Message{Title: m.Title, Tag: m.Tag, Topic: m.Topic, Urgency: m.Urgency, TTL: m.TTL}
	l.Callback = l.Callback.Shown()
	return l
}
