package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mainstay-cluster/mainstay/e2e/chaos/history"
)

const (
	fewParts  = 4 // and up to three times as many
	manyParts = 60
	// filler makes a commit of many parts larger than one entry of the log.
	filler = 10 << 10
	// pods is how many run throughout; no commit changes them.
	pods = 6
)

// standing is what all commits declare alike.
var standing = map[string]string{
	"mainstay.yaml": "apiVersion: mainstay.dev/v1alpha1\nkind: Cluster\nmetadata: {name: chaos}\n",
	"web.yaml": fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: app, image: "web:1.0"}]}
`, pods),
}

// change is what a commit is like.
type change string

const (
	small   change = "small"
	large   change = "large"   // more than one entry of the log
	broken  change = "broken"  // one of its files cannot be carried out
	emptied change = "emptied" // it declares nothing
)

// changes is what is pushed, as often as it is listed.
var changes = []change{small, small, small, small, small, small, large, large, broken, emptied}

// repository is a worktree to which commits are made. It has one user.
type repository struct {
	path string
	dice *rand.Rand
}

// newRepository has a first commit.
func newRepository(t testing.TB, path string, seed uint64) *repository {
	t.Helper()
	r := &repository{path: path, dice: rand.New(rand.NewPCG(seed, 1<<32))}
	err := os.MkdirAll(path, 0o755)
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"config", "user.name", "Ada"}, {"config", "user.email", "ada@example.com"}, {"config", "gc.auto", "0"}} {
		if err == nil {
			err = r.git(args...)
		}
	}
	if err == nil {
		err = r.commit(0, small, fewParts)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *repository) git(args ...string) error {
	if out, err := exec.Command("git", append([]string{"-C", r.path}, args...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("git %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// next chooses the next commit, and how many parts it declares.
func (r *repository) next() (change, int) {
	switch kind := changes[r.dice.IntN(len(changes))]; kind {
	case large:
		return kind, manyParts
	case small:
		return kind, fewParts + r.dice.IntN(2*fewParts)
	default:
		return kind, 0
	}
}

// commit makes the commit of a generation.
func (r *repository) commit(generation int, kind change, parts int) error {
	files := map[string]string{"parts.yaml": manifest(generation, kind, parts)}
	for name, content := range standing {
		files[name] = content
	}
	if kind == broken {
		files["broken.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: broken}\nbinary: {no: such field}\n"
	}
	if kind == emptied {
		files = map[string]string{"README": fmt.Sprintf("nothing, for the sake of generation %d", generation)}
	}
	if err := r.replace(files); err != nil {
		return fmt.Errorf("write generation %d: %w", generation, err)
	}
	if err := r.git("add", "-A"); err != nil {
		return err
	}
	return r.git("commit", "-q", "-m", fmt.Sprintf("generation %d, %s", generation, kind))
}

// head is the newest commit.
func (r *repository) head() (string, error) {
	out, err := exec.Command("git", "-C", r.path, "rev-parse", "HEAD").Output()
	if err != nil {
		return "", fmt.Errorf("git rev-parse: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// replace makes files all that there is.
func (r *repository) replace(files map[string]string) error {
	there, err := os.ReadDir(r.path)
	if err != nil {
		return err
	}
	for _, entry := range there {
		if _, wanted := files[entry.Name()]; wanted || entry.IsDir() {
			continue
		}
		if err := os.Remove(filepath.Join(r.path, entry.Name())); err != nil {
			return err
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(r.path, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func manifest(generation int, kind change, parts int) string {
	padding := ""
	if kind == large {
		padding = strings.Repeat("x", filler)
	}
	var b strings.Builder
	for i := range max(parts, fewParts) {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: part-%d}\ndata: {generation: \"%d\", padding: \"%s\"}\n", i, generation, padding)
	}
	return b.String()
}

// away makes the repository unreadable for a while.
func (r *repository) away(ctx context.Context, for_ time.Duration) error {
	git, hidden := filepath.Join(r.path, ".git"), filepath.Join(r.path, "hidden")
	if err := os.Rename(git, hidden); err != nil {
		return err
	}
	sleep(ctx, for_)
	return os.Rename(hidden, git)
}

const (
	// maxGap is the longest between two pushes.
	maxGap = 900 * time.Millisecond
	// oneInAway of the pushes comes after a time without a repository, of at most maxAway.
	oneInAway = 15
	maxAway   = 2 * time.Second
)

// pushes brings commits until ctx ends.
func (c *cluster) pushes(ctx context.Context) error {
	for sleep(ctx, upTo(c.repo.dice, maxGap)) {
		if c.repo.dice.IntN(oneInAway) == 0 {
			if err := c.repo.away(ctx, upTo(c.repo.dice, maxAway)); err != nil {
				return err
			}
		}
		kind, parts := c.repo.next()
		if _, err := c.push(kind, parts); err != nil {
			return err
		}
	}
	return nil
}

// push brings the next commit, and returns its generation.
func (c *cluster) push(kind change, parts int) (int, error) {
	c.mu.Lock()
	generation := len(c.history.Pushes)
	c.history.Pushes = append(c.history.Pushes, history.Push{Generation: generation, Began: c.now(), Parts: parts})
	c.mu.Unlock()
	return generation, c.repo.commit(generation, kind, parts)
}
