// Command probe asks for URLs, each twenty times a second on a new connection, and serves what came of it: a Service that
// fails anybody for a moment is seen. Usage: probe LISTEN URL...
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

const (
	every   = 50 * time.Millisecond
	timeout = 2 * time.Second
	// A little less than timeout, so that an error says whether the name or the address gave no answer.
	dialTimeout = timeout - 100*time.Millisecond
)

// count is what came of one URL.
type count struct {
	OK       int       `json:"ok"`
	Failed   int       `json:"failed"`
	Error    string    `json:"error,omitempty"` // the newest
	FailedAt time.Time `json:"failedAt"`        // the newest
}

// tally counts for many that ask at once.
type tally struct {
	mu sync.Mutex
	count
}

func (t *tally) now() count {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count
}

func (t *tally) add(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.OK++
		return
	}
	t.Failed, t.Error, t.FailedAt = t.Failed+1, err.Error(), time.Now()
}

func main() {
	tallies := map[string]*tally{}
	for _, url := range os.Args[2:] {
		t := &tally{}
		tallies[url] = t
		go ask(url, t)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		now := map[string]count{}
		for url, t := range tallies {
			now[url] = t.now()
		}
		_ = json.NewEncoder(w).Encode(now) // who left needs no answer
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}

// ask never waits for an answer before it asks again: a hanging endpoint must not hide behind fewer questions.
func ask(url string, t *tally) {
	client := http.Client{Timeout: timeout, Transport: &http.Transport{
		DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext,
	}}
	for range time.Tick(every) {
		go func() { t.add(once(&client, url)) }()
	}
}

func once(client *http.Client, url string) error {
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", response.Status)
	}
	return nil
}
