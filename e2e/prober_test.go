package e2e

import (
	"encoding/json"
	"maps"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"
)

// prober asks URLs all the time, from the machine or from a Pod.
type prober struct {
	at   string
	urls []string // that count; all if empty
}

// only is the prober with an eye for these URLs alone.
func (p prober) only(urls ...string) prober { return prober{p.at, urls} }

// tally is what came of one URL.
type tally struct {
	OK, Failed int
	Error      string
	FailedAt   time.Time
}

// probe asks for URLs from outside the cluster until the test ends.
func (f *fleet) probe(t testing.TB, urls ...string) prober {
	t.Helper()
	at := netip.AddrPortFrom(f.network.Gateway(), probePorts+f.probers).String()
	f.probers++
	cmd := exec.Command(binary(t, "github.com/mainstay-cluster/mainstay/e2e/probe"), append([]string{at}, urls...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		_ = cmd.Wait()
	})
	return prober{at: at}
}

func (p prober) try() (map[string]tally, error) {
	client := http.Client{Timeout: 5 * time.Second}
	response, err := client.Get("http://" + p.at + "/")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	var found map[string]tally
	err = json.NewDecoder(response.Body).Decode(&found)
	maps.DeleteFunc(found, func(url string, _ tally) bool { return len(p.urls) > 0 && !slices.Contains(p.urls, url) })
	return found, err
}

func (p prober) look(t testing.TB) map[string]tally {
	t.Helper()
	var found map[string]tally
	var err error
	for range 300 {
		if found, err = p.try(); err == nil {
			return found
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("the prober at %s does not answer: %v", p.at, err)
	return nil
}

// faultless fails the test if any request has failed since before, and wants some to have been answered.
func (p prober) faultless(t testing.TB, before map[string]tally) {
	t.Helper()
	after := p.look(t)
	for _, url := range slices.Sorted(maps.Keys(after)) {
		if failed := after[url].Failed - before[url].Failed; failed > 0 {
			t.Errorf("%d requests for %s failed, the last at %s: %s", failed, url, after[url].FailedAt.Format(time.TimeOnly), after[url].Error)
		}
		if after[url].OK == before[url].OK {
			t.Errorf("no request for %s was answered", url)
		}
	}
}

// steady waits until a prober has had no failure for a while: what a fault broke is mended.
func (p prober) steady(t testing.TB, within time.Duration) map[string]tally {
	t.Helper()
	const quiet = 3 * time.Second
	for deadline := time.Now().Add(within); ; time.Sleep(100 * time.Millisecond) {
		last := time.Time{}
		found := p.look(t)
		for _, of := range found {
			if of.FailedAt.After(last) {
				last = of.FailedAt
			}
		}
		if time.Since(last) > quiet {
			return found
		}
		if time.Now().After(deadline) {
			t.Fatalf("requests still fail %s after the fault: %+v", within, found)
		}
	}
}
