//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A contender is a server in a process of its own.
type contender struct {
	name    string
	command []string
	publish func(ctx context.Context, url string) error // one event, to all
}

// try fills a server with pages, looks at it, and lets them hear.
func (c contender) try(ctx context.Context, pages, events int) (r result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.command[0], c.command[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	told, err := cmd.StderrPipe()
	if err != nil {
		return r, err
	}
	if err := cmd.Start(); err != nil {
		return r, err
	}
	defer cmd.Wait()
	defer cancel()
	url := ""
	lines := bufio.NewScanner(told)
	for url == "" && lines.Scan() {
		_, url, _ = strings.Cut(lines.Text(), "listening on ")
	}
	go func() {
		for lines.Scan() {
		}
	}()
	empty, err := memory(cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	all, err := gather(url, pages)
	if err != nil {
		return r, err
	}
	defer all.disperse()
	time.Sleep(5 * time.Second) // second writes, and what is collected as garbage
	full, err := memory(cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	r.memory = (full - empty) / float64(pages)
	before, err := cpu(cmd.Process.Pid)
	if err != nil {
		return r, err
	}
	for range events {
		began := time.Now()
		if err := c.publish(ctx, url); err != nil {
			return r, err
		}
		heard, err := all.hear()
		if err != nil {
			return r, err
		}
		for _, at := range heard {
			r.late = append(r.late, at.Sub(began))
		}
	}
	after, err := cpu(cmd.Process.Pid)
	r.cpu = (after - before).Seconds() * 1e6 / float64(pages*events)
	return r, err
}

// publisher publishes by an operator's call on the socket.
func publisher(dir string) func(context.Context, string) error {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "belfry.sock"))
	}}}
	return func(ctx context.Context, _ string) error {
		return post(ctx, client, "http://belfry/api/v1/broadcasts", `{"message":{"title":"Hello"},"audience":{"channels":["news"]},"push":"never"}`)
	}
}

func publishPlain(ctx context.Context, url string) error {
	return post(ctx, http.DefaultClient, url+"/publish", `{"id":"01arz3ndektsv4rrffq69g5fav","channels":["news"],"time":"2026-03-04T05:06:07.000Z","cursor":"0123456789.1","message":{"title":"Hello"}}`)
}

func post(ctx context.Context, client *http.Client, url, body string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return fmt.Errorf("published: %s", resp.Status)
	}
	return nil
}

// memory is what a process has for itself, in KB.
func memory(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(status), "RssAnon:")
	return strconv.ParseFloat(strings.Fields(rest)[0], 64)
}

// cpu is the time that a process has used. Linux counts it in ticks of 10 ms.
func cpu(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])) // from the third field of proc(5) on
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, err
}
