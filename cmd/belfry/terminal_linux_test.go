package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A screen is what a person sees of a terminal: it does what the program's
// control characters ask for, and remembers what it looked like.
type screen struct {
	columns  int
	lines    [][]rune
	row, col int
	wrapped  []string // lines that were too long for it
	odd      []string // what it was told and does not know
	looks    []string // each look that was another than the one before
	rest     []byte   // the beginning of a sequence
}

// sequence is a control sequence, or one character.
var sequence = regexp.MustCompile(`(?s)^(?:\x1b\[([0-9;?]*)([A-Za-z])|.)`)

func (s *screen) Write(b []byte) (int, error) {
	text := append(s.rest, b...)
	for len(text) > 0 {
		m := sequence.FindSubmatch(text)
		if text[0] == '\x1b' && m[2] == nil && len(text) < 8 {
			break // the end of it comes with the next bytes
		}
		s.obey(string(m[0]), string(m[1]), string(m[2]))
		text = text[len(m[0]):]
	}
	s.rest = slices.Clone(text)
	if now := s.text(); len(s.looks) == 0 || s.looks[len(s.looks)-1] != now {
		s.looks = append(s.looks, now)
	}
	return len(b), nil
}

func (s *screen) obey(all, arg, what string) {
	for len(s.lines) <= s.row {
		s.lines = append(s.lines, nil)
	}
	line := s.lines[s.row]
	switch {
	case all == "\r":
		s.col = 0
	case all == "\n":
		s.row++
	case what == "A":
		n, _ := strconv.Atoi(arg)
		s.row = max(0, s.row-max(1, n))
	case what == "J" && arg == "":
		s.lines = s.lines[:s.row+1]
		s.lines[s.row] = line[:min(s.col, len(line))]
	case what != "" || all < " ":
		s.odd = append(s.odd, fmt.Sprintf("%q", all))
	default:
		if s.col == s.columns {
			s.wrapped = append(s.wrapped, string(line))
			s.row, s.col = s.row+1, 0
			s.obey(all, arg, what)
			return
		}
		for len(line) <= s.col {
			line = append(line, ' ')
		}
		line[s.col] = []rune(all)[0]
		s.lines[s.row] = line
		s.col++
	}
}

// text is what stands on it.
func (s *screen) text() string {
	var out []string
	for _, line := range s.lines {
		out = append(out, strings.TrimRight(string(line), " "))
	}
	return strings.TrimRight(strings.Join(out, "\n"), "\n")
}

// A sitting is one run of the program at a terminal.
type sitting struct {
	dir       string
	columns   int
	elsewhere string   // "stdout" or "stderr", where that is a file of that name
	env       []string // besides the test's own
	typed     string   // once there is a percentage to be seen
}

// run returns what was seen, and the exit code.
func (at sitting) run(t *testing.T, args ...string) (*screen, int) {
	t.Helper()
	terminal, program := openTerminal(t, at.columns)
	path, err := exec.LookPath("belfry")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = at.dir, append(os.Environ(), append(at.env, "GORACE="+raceOptions, "TERM=xterm-256color")...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if at.elsewhere != "" {
		file, err := os.Create(filepath.Join(at.dir, at.elsewhere))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		*map[string]*io.Writer{"stdout": &cmd.Stdout, "stderr": &cmd.Stderr}[at.elsewhere] = file
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	program.Close()
	defer time.AfterFunc(within, func() { cmd.Process.Kill() }).Stop()
	s, buf, typed := &screen{columns: at.columns}, make([]byte, 4096), at.typed
	for {
		n, err := terminal.Read(buf) // gives an error once nobody writes any more
		if s.Write(buf[:n]); err != nil {
			break
		}
		if strings.Contains(s.text(), "%") {
			io.WriteString(terminal, typed)
			typed = ""
		}
	}
	cmd.Wait()
	return s, cmd.ProcessState.ExitCode()
}

// written is what a file of dir holds that the last sitting wrote.
func (at sitting) written(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(at.dir, at.elsewhere))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// together is text without the spaces and ends of lines between its words: what a
// narrow terminal breaks is the same.
func together(text string) string { return strings.Join(strings.Fields(text), "") }

// overflows are the lines of a bar that were too long, but for those of text,
// which the terminal may break.
func (s *screen) overflows(text string) []string {
	return slices.DeleteFunc(slices.Clone(s.wrapped), func(line string) bool { return strings.Contains(together(text), together(line)) })
}

// openTerminal makes a pseudo-terminal: what the program writes to its end is
// read from ours, as man 4 pts has it.
func openTerminal(t *testing.T, columns int) (ours, programs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	fd := int(ours.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if programs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: uint16(columns)}); err != nil {
		t.Fatal(err)
	}
	return ours, programs
}

// subscribed is a server with so many subscribers, and its push service.
func subscribed(t *testing.T, subscribers string) (dir, push string) {
	dir = t.TempDir()
	_, push = background(t, dir, "push", "pushservice", "--listen", "127.0.0.1:0")
	_, server := background(t, dir, "srv", "serve", "--listen", "127.0.0.1:0", "--push-host", push)
	belfryIn(t.Context(), dir, "subscriptions", "import", minted(t, dir, push, server, subscribers)).must(t)
	return dir, push
}

// Somebody at a terminal sees one line that moves, with how many, how fast and
// how long it still takes, whatever the terminal's width, and in the end nothing
// but the last word. A line that wraps would scroll away what they typed before.
func TestBarOnATerminal(t *testing.T) {
	t.Parallel()
	dir, _ := subscribed(t, "120")
	const bar = `^ +\d+% \|█+ *\|`
	for _, tt := range []struct {
		name  string
		at    sitting
		shows string // a look that it must have had
	}{
		{"wide", sitting{columns: 100}, bar + ` +\d+ of 120, \d+s left, \d+/s$`},
		{"as usual", sitting{columns: 80, env: []string{"NO_COLOR=1"}}, bar + ` +\d+ of 120, \d+s left, \d+/s$`},
		{"narrow", sitting{columns: 40}, bar + ` +\d+ of 120\n\d+s left, \d+/s$`},
		{"very narrow", sitting{columns: 20}, bar + `\n\d+ of 120, \d+s left,\n  \d+/s$`},
		{"with the result elsewhere", sitting{columns: 60, elsewhere: "stdout"}, bar + ` +\d+ of 120, \d+s left, \d+/s$`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.at.dir = dir
			s, code := tt.at.run(t, "send", "--title", "Hello", "--all", "--rate", "30")
			result := s.text()
			if tt.at.elsewhere != "" {
				if result != "" {
					t.Errorf("it leaves behind %q", result)
				}
				result = tt.at.written(t)
			}
			if code != 0 || !regexp.MustCompile(`^[0-9a-z]{26}done:120of120accepted$`).MatchString(together(result)) {
				t.Errorf("exit code %d, and in the end it shows %q", code, result)
			}
			if lines := s.overflows(result); len(lines) > 0 || len(s.odd) > 0 {
				t.Errorf("lines that are too long: %q; what no bar needs: %s", lines, s.odd)
			}
			moved := map[string]bool{}
			for _, look := range s.looks {
				moved[regexp.MustCompile(`^ +\d+%`).FindString(look)] = true
			}
			if len(moved) < 4 || !slices.ContainsFunc(s.looks, regexp.MustCompile(tt.shows).MatchString) {
				t.Errorf("it never looked like %s, or did not move: %q", tt.shows, s.looks)
			}
		})
	}
}

// The bar is never behind its text: 60 of 120 is 50 %.
func TestBarAgreesWithItsText(t *testing.T) {
	t.Parallel()
	dir, _ := subscribed(t, "100")
	s, _ := sitting{dir: dir, columns: 80}.run(t, "send", "--title", "Hello", "--all", "--rate", "30")
	both, agree := regexp.MustCompile(`^ +(\d+)% .* (\d+) of 100,`), 0
	for _, look := range s.looks {
		if m := both.FindStringSubmatch(look); m != nil && m[1] == m[2] {
			agree++
		}
	}
	if agree < 3 {
		t.Errorf("%q", s.looks)
	}
}

// Where nobody looks at stderr there is no bar, and nothing that only a terminal
// understands.
func TestNoBarInAFile(t *testing.T) {
	t.Parallel()
	dir, _ := subscribed(t, "20")
	at := sitting{dir: dir, columns: 80, elsewhere: "stderr"}
	s, code := at.run(t, "send", "--title", "Hello", "--all", "--rate", "20")
	if code != 0 || at.written(t) != "" || strings.Contains(strings.Join(s.looks, ""), "%") || !strings.HasSuffix(s.text(), " done: 20 of 20 accepted") || len(s.odd) > 0 {
		t.Errorf("exit code %d, stderr %q, %q", code, at.written(t), s.looks)
	}
}

// Under the bar stands which push service makes its rows wait, as many lines as
// that takes. They are gone in the end, and when somebody leaves by Ctrl-C, who
// is told instead how to come back.
func TestNoticesOnATerminal(t *testing.T) {
	t.Parallel()
	dir, push := subscribed(t, "30")
	body := `{"answers":[{"status":503}]}`
	resp, err := anyServer.Post(push+"/pushtest/answers", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, columns := range []int{120, 38} {
		s, code := sitting{dir: dir, columns: columns}.run(t, "send", "--title", "Hello", "--all", "--ttl", "5s")
		result := s.text()
		if code != 0 || !regexp.MustCompile(`^[0-9a-z]{26}done:0of30accepted,30expired$`).MatchString(together(result)) || len(s.overflows(result)) > 0 {
			t.Errorf("exit code %d, too long are %q, and in the end it shows %q", code, s.overflows(result), result)
		}
		told := regexp.MustCompile(`^\d+%\|.*127\.0\.0\.1:\d+waits:itfails\(.*\)andisaskedonceasecond$`)
		if !slices.ContainsFunc(s.looks, func(look string) bool { return told.MatchString(together(look)) }) {
			t.Errorf("it never says why: %q", s.looks)
		}
	}
	s, code := sitting{dir: dir, columns: 120, typed: "\x03"}.run(t, "send", "--title", "Hello", "--all", "--ttl", "1h")
	if left := s.text(); code != 0 || strings.Contains(left, "%") || strings.Contains(left, "waits") || !strings.Contains(left, "belfry broadcasts watch ") {
		t.Errorf("exit code %d, and it leaves behind %q", code, left)
	}
}
