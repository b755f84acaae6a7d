// Package process runs programs beside a test: it waits until they say that they
// are ready, ends them with the test, and shows what they said when it fails.
// Only tests import it, and only where there are Unix signals.
package process
