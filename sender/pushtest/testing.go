package pushtest

// TB is the part of testing.TB that the starters need. It is declared here so
// that a program that runs the service alone does not link the testing package.
type TB interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
}

// NewService starts a service for one test: HTTPS and HTTP/2 on a free port of
// 127.0.0.1, with its own CA; it ends with the test. At most one Config may be
// given, to change its clock or its name.
func NewService(t TB, cfg ...Config) *Service {
	t.Helper()
	c := only(t, cfg)
	c.TLS = true
	return start(t, c)
}

// NewMemoryService is NewService over net.Pipe, for tests in a synctest bubble.
// Its endpoints begin with https://push.test.
func NewMemoryService(t TB, cfg ...Config) *Service {
	t.Helper()
	c := only(t, cfg)
	c.Memory = true
	return start(t, c)
}

func only(t TB, cfg []Config) Config {
	t.Helper()
	switch len(cfg) {
	case 0:
		return Config{}
	case 1:
		return cfg[0]
	}
	t.Fatal("pushtest: at most one Config")
	return Config{}
}

func start(t TB, cfg Config) *Service {
	t.Helper()
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
