package raftlog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// sink passes raft's own messages on.
type sink struct{ log *slog.Logger }

// raftLogger makes raft log to log. What raft calls Info is about its inside, so it is Debug here.
func raftLogger(log *slog.Logger) hclog.Logger {
	logger := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Info, Output: io.Discard})
	logger.RegisterSink(&sink{log})
	return logger
}

// Accept implements hclog.SinkAdapter.
func (s *sink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch {
	case level < hclog.Info:
		return
	case level == hclog.Warn && !strings.HasPrefix(msg, "heartbeat timeout reached"): // the start of any election
		to = slog.LevelWarn
	case level == hclog.Error:
		to = slog.LevelError
	}
	if !s.log.Enabled(context.Background(), to) {
		return
	}
	attrs := []any{"by", "raft"}
	for i := 0; i+1 < len(args); i += 2 {
		attrs = append(attrs, fmt.Sprint(args[i]), plain(args[i+1]))
	}
	s.log.Log(context.Background(), to, msg, attrs...)
}

// plain makes a value printable: raft passes formats and whole structures.
func plain(v any) any {
	switch v := v.(type) {
	case hclog.Format:
		return fmt.Sprintf(fmt.Sprint(v[0]), v[1:]...)
	case string, error, int, int64, uint64, bool:
		return v
	default:
		return fmt.Sprint(v)
	}
}
