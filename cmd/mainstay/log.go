package main

import (
	"log/slog"
	"os"

	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// logging is how a process was asked to log.
type logging struct{ verbose bool }

func (l *logging) addFlag(f *pflag.FlagSet) {
	f.BoolVar(&l.verbose, "verbose", false, "log what only a developer wants to know, too")
}

// logger writes text for a person at a terminal, and JSON for a machine.
func (l *logging) logger(w *os.File) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: durationAsText}
	if l.verbose {
		options.Level = slog.LevelDebug
	}
	if term.IsTerminal(int(w.Fd())) {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// durationAsText keeps JSON from showing a bare count of nanoseconds: both forms say 1.5s.
func durationAsText(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindDuration {
		a.Value = slog.StringValue(a.Value.Duration().String())
	}
	return a
}
