package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

const (
	kills       = 100
	activations = 50
	parts       = 60 // ConfigMaps per commit, each with the commit's number: together larger than one log entry
)

// generation is a commit in which every object carries the same number, so that a mix is seen at once.
func generation(n int) string {
	var b strings.Builder
	for i := range parts {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: part-%d}\ndata: {generation: \"%d\", filler: %s}\n", i, n, strings.Repeat("x", 10<<10))
	}
	return b.String()
}

// seen is the generation that the API shows: the number all parts carry, or an error that says how they differ.
func (c *cluster) seen() (string, error) {
	out, err := c.try("get", "configmaps", "-o", "json")
	if err != nil {
		return "", err
	}
	var list struct {
		Items []struct{ Data map[string]string }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return "", err
	}
	counts := map[string]int{}
	for _, item := range list.Items {
		counts[item.Data["generation"]]++
	}
	if len(counts) != 1 || len(list.Items) != parts {
		return "", fmt.Errorf("%w: %d objects by generation: %v", errMix, len(list.Items), counts)
	}
	return list.Items[0].Data["generation"], nil
}

var errMix = errors.New("a mix of commits")

// P2 and P10: killed at any instant of an activation, the cluster shows the commit before or the commit after, whole.
func TestKilledAtAnyInstantShowsOneCommitWhole(t *testing.T) {
	c := newCluster(t, map[string]string{"parts.yaml": generation(0)})
	c.up(t)
	c.converge(t, c.head(t))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	shown := 0
	for kill := range kills {
		committed := (kill + 1) * activations / kills
		if committed > kill*activations/kills {
			c.commit(t, fmt.Sprint("generation ", committed), map[string]string{"parts.yaml": generation(committed)})
		}
		time.Sleep(time.Duration(random.IntN(120)) * time.Millisecond) // an instant of the activation, not a wait for it
		c.kill(t)
		c.up(t)
		var now string
		c.eventually(t, "the API shows a commit", func() (err error) {
			if now, err = c.seen(); errors.Is(err, errMix) {
				t.Fatalf("kill %d of seed %d: %v", kill, seed, err)
			}
			return err
		})
		n := 0
		if _, err := fmt.Sscan(now, &n); err != nil {
			t.Fatal(err)
		}
		if n < shown || n > committed {
			t.Fatalf("kill %d of seed %d: generation %d is shown; %d was shown before, %d is committed", kill, seed, n, shown, committed)
		}
		shown = n
	}
	c.converge(t, c.head(t))
	if now, err := c.seen(); err != nil || now != fmt.Sprint(activations) {
		t.Errorf("in the end generation %s is shown (%v), want %d", now, err, activations)
	}
}
