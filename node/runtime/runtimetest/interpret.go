package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// interpret reads a container's command as the tiny shell described at Behave.
func interpret(c runtime.ContainerConfig) Behaviour {
	command := append(slices.Clone(c.Command), c.Args...)
	if len(command) == 0 {
		return Behaviour{}
	}
	b, _ := script(command)
	return b
}

// interpretExec reads a command as interpret does. What would never end does nothing.
func interpretExec(_ runtime.Container, command []string) (int, []byte, error) {
	b, known := script(command)
	if !known {
		return exitNotFound, []byte("command not found\n"), nil
	}
	return b.ExitCode, []byte(b.Output), nil
}

// exitNotFound is what a shell answers for a command that does not exist.
const exitNotFound = 127

// script runs a command; known is false where it holds anything but the tiny shell.
func script(command []string) (b Behaviour, known bool) {
	statements := []string{strings.Join(command, " ")}
	if len(command) == 3 && command[0] == "sh" && command[1] == "-c" {
		statements = strings.Split(command[2], ";")
	}
	b.Exits = true
	for _, statement := range statements {
		words := strings.Fields(strings.TrimPrefix(strings.TrimSpace(statement), "exec "))
		if len(words) == 0 {
			continue
		}
		if strings.HasPrefix(words[0], "/nonexistent") {
			return Behaviour{StartErr: errors.New("exec: " + words[0] + ": no such file or directory")}, false
		}
		switch argument := strings.Join(words[1:], " "); words[0] {
		case "echo":
			b.Output += argument + "\n"
		case "sleep":
			seconds, _ := strconv.ParseFloat(argument, 64)
			b.RunFor += time.Duration(seconds * float64(time.Second))
		case "exit":
			b.ExitCode, _ = strconv.Atoi(argument)
			return b, true
		case "true":
			b.ExitCode = 0
		case "false":
			b.ExitCode = 1
		case "trap":
			b.IgnoresTerm = true
		default:
			return Behaviour{Output: b.Output}, false
		}
	}
	return b, true
}

// newLogReader returns the container's output; when followed, its end comes with the container's.
func newLogReader(ctx context.Context, c *fakeContainer, opts runtime.LogOptions) io.ReadCloser {
	lines := strings.SplitAfter(c.behaviour.Output, "\n")
	lines = lines[:len(lines)-1]
	if c.Started.Before(opts.Since) {
		lines = nil
	}
	if opts.Tail > 0 {
		lines = lines[max(0, len(lines)-opts.Tail):]
	}
	var out bytes.Buffer
	for _, line := range lines {
		if opts.Timestamps {
			out.WriteString(c.Started.UTC().Format(time.RFC3339Nano) + " ")
		}
		out.WriteString(line)
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &logReader{out: out, ctx: ctx, cancel: cancel}
	if opts.Follow {
		r.done = c.done
	}
	return r
}

type logReader struct {
	out    bytes.Buffer
	ctx    context.Context // stored because io.Reader takes none
	cancel context.CancelFunc
	done   <-chan struct{} // nil when not followed
}

func (r *logReader) Read(p []byte) (int, error) {
	if r.out.Len() == 0 && r.done != nil {
		select {
		case <-r.done:
		case <-r.ctx.Done():
			return 0, context.Cause(r.ctx)
		}
	}
	return r.out.Read(p)
}

func (r *logReader) Close() error {
	r.cancel()
	return nil
}
