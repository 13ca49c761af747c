package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLogOfAMachineHasDurationsWithTheirUnit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	log := new(logging).logger(file)
	log.Debug("not asked for")
	log.Info("commit applied", "took", 1500*time.Millisecond, slog.Group("of", "fetch", 2*time.Minute))
	(&logging{verbose: true}).logger(file).Debug("asked for")
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first, second, _ := strings.Cut(string(content), "\n")
	var line struct {
		Msg, Took string
		Of        struct{ Fetch string }
	}
	if err := json.Unmarshal([]byte(first), &line); err != nil || line.Msg != "commit applied" || line.Took != "1.5s" || line.Of.Fetch != "2m0s" {
		t.Errorf("%v: %s", err, first)
	}
	if !strings.Contains(second, "asked for") || strings.Contains(string(content), "not asked") {
		t.Errorf("log:\n%s", content)
	}
}
