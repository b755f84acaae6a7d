package sender

import "github.com/belfry-push/belfry"

// Size is how many octets the body of a request has that carries msg.
func (s *Sender) Size(msg belfry.PushMessage) (int, error) { return bodySize(msg) }
