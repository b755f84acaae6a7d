package belfry

import "fmt"

// An Audience is whom a broadcast is for: exactly one of its fields is set.
type Audience struct {
	Channels      []string `json:"channels,omitempty"`      // whoever listens to any of them
	Users         []string `json:"users,omitempty"`         // all devices of these people
	Subscriptions []string `json:"subscriptions,omitempty"` // these devices, by id
	All           bool     `json:"all,omitempty"`
}

// maxNamed is how many users or subscriptions an audience may list; more are a channel.
const maxNamed = 1000

// Check returns the audience in its one form, or says what is wrong with it.
func (a Audience) Check() (Audience, error) {
	kinds := 0
	for _, set := range []bool{len(a.Channels) > 0, len(a.Users) > 0, len(a.Subscriptions) > 0, a.All} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return a, Invalid("audience", "audience", "must be exactly one of channels, users, subscriptions or all")
	}
	if len(a.Users) > maxNamed || len(a.Subscriptions) > maxNamed {
		return a, Invalid("audience", "audience", fmt.Sprintf("lists at most %d users or subscriptions", maxNamed))
	}
	for _, u := range a.Users {
		if err := CheckUser(u); err != nil || u == "" {
			return a, Invalid("user", "audience.users", fmt.Sprintf("%s is not a user name", quote(u)))
		}
	}
	for _, id := range a.Subscriptions {
		if len(id) != 26 {
			return a, Invalid("audience", "audience.subscriptions", fmt.Sprintf("%s is not a subscription id", quote(id)))
		}
	}
	var err error
	if len(a.Channels) > 0 {
		a.Channels, err = CheckChannels(a.Channels)
	}
	return a, At("audience", err)
}

// Channel is the audience's channel when there is exactly one, else empty.
func (a Audience) Channel() string {
	if len(a.Channels) == 1 {
		return a.Channels[0]
	}
	return ""
}
