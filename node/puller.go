package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

const (
	// pullsAtOnce leaves the network to the Pods that are waiting for images right now.
	pullsAtOnce = 2
	// maxRemembered bounds how many images stay known as pulled ahead; servers ask again for what was forgotten.
	maxRemembered = 50
	// failuresShown bounds how many images the condition's message names.
	failuresShown = 3
)

// puller pulls the images that servers want here ahead of the Pods that need them.
type puller struct {
	rt      runtime.Runtime
	log     *slog.Logger
	changed func() // is called when what it says of itself has changed

	mu     sync.Mutex
	wanted []string         // as last told by a server; guarded by mu
	pulls  map[string]*pull // of wanted images; guarded by mu
	pulled []string         // what was once wanted and is here, oldest first; guarded by mu
	busy   int              // how many pulls are going on; guarded by mu
	wake   chan struct{}    // capacity 1: a token, not a queue
}

// pull is how far an image has come.
type pull struct {
	Cancel  context.CancelCauseFunc // nil unless it is going on
	Done    bool
	Problem problem // of the last try; stays until one succeeds
}

func newPuller(rt runtime.Runtime, log *slog.Logger) *puller {
	return &puller{rt: rt, log: log, changed: func() {}, pulls: map[string]*pull{}, wake: make(chan struct{}, 1)}
}

// want sets which images are to be here. A pull that nobody wants any more ends.
func (p *puller) want(images []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Equal(p.wanted, images) {
		return
	}
	p.wanted = slices.Clone(images)
	maps.DeleteFunc(p.pulls, func(image string, one *pull) bool {
		unwanted := !slices.Contains(images, image)
		if unwanted && one.Cancel != nil {
			one.Cancel(errSuperseded)
		}
		return unwanted
	})
	for _, image := range images {
		if p.pulls[image] == nil {
			p.pulls[image] = &pull{}
		}
	}
	p.nudge()
	p.changed()
}

// told is what a server last said.
func (p *puller) told() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.wanted)
}

func (p *puller) nudge() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run pulls until ctx ends.
func (p *puller) run(ctx context.Context) error {
	var going sync.WaitGroup
	defer going.Wait()
	for {
		var due <-chan time.Time
		if again := p.begin(ctx, &going); !again.IsZero() {
			due = time.After(time.Until(again))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-due:
		case <-p.wake:
		}
	}
}

// begin starts what may be pulled now and returns when to look again, zero for not before something changes.
func (p *puller) begin(ctx context.Context, going *sync.WaitGroup) (again time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, image := range p.wanted {
		one := p.pulls[image]
		switch {
		case one.Done, one.Cancel != nil:
		case one.Problem.holds(time.Now()):
			again = earlier(again, one.Problem.Until)
		case p.busy < pullsAtOnce:
			p.busy++
			var pulling context.Context
			pulling, one.Cancel = context.WithCancelCause(ctx)
			going.Go(func() { p.pull(pulling, image, one) })
		}
	}
	return again
}

// pull tries once to make an image present.
func (p *puller) pull(ctx context.Context, image string, one *pull) {
	ctx, cancel := context.WithTimeoutCause(ctx, pullTimeout, fmt.Errorf("pulling image %q took longer than %s", image, pullTimeout))
	defer cancel()
	begun := time.Now()
	_, err := p.rt.EnsureImage(ctx, image, corev1.PullIfNotPresent)
	stopped := err != nil && cancelled(ctx, err) != nil
	p.mu.Lock()
	defer p.mu.Unlock()
	one.Cancel(nil)
	one.Cancel = nil
	p.busy--
	p.nudge()
	if p.pulls[image] != one || stopped {
		return // nobody wants it any more
	}
	if err != nil {
		now := time.Now()
		retry := double(one.Problem.Delay, firstBackoff, maxBackoff)
		one.Problem = problem{Reason: reasonErrImagePull, Message: pullMessage(err), Since: now, Delay: retry, Until: now.Add(retry)}
		p.log.Warn("image not pulled ahead of the Pods that need it", "image", image, "err", err, "again", retry)
		p.changed()
		return
	}
	one.Done, one.Problem = true, problem{}
	p.remember(image)
	p.log.Info("image is here ahead of the Pods that need it", "image", image, "took", time.Since(begun).Round(time.Millisecond))
	p.changed()
}

// remember is called with mu held.
func (p *puller) remember(image string) {
	p.pulled = append(slices.DeleteFunc(p.pulled, func(known string) bool { return known == image }), image)
	p.pulled = p.pulled[max(0, len(p.pulled)-maxRemembered):]
}

// verify makes sure that what was pulled ahead is still here; what is not and still wanted is pulled again.
func (p *puller) verify(ctx context.Context) {
	p.mu.Lock()
	pulled := slices.Clone(p.pulled)
	p.mu.Unlock()
	for _, image := range pulled {
		_, err := p.rt.EnsureImage(ctx, image, corev1.PullNever)
		if err == nil {
			continue
		}
		if !errors.Is(err, runtime.ErrImageNeverPull) {
			return // an engine that does not answer has lost nothing
		}
		p.mu.Lock()
		p.pulled = slices.DeleteFunc(p.pulled, func(known string) bool { return known == image })
		if one := p.pulls[image]; one != nil {
			one.Done = false
		}
		p.mu.Unlock()
		p.nudge()
	}
}

// ahead is what a node says about images that were or are to be pulled ahead.
type ahead struct {
	Pulled   []string // here, by the names they were wanted by
	Failures string   // why others are not; empty if none has failed
}

func (p *puller) ahead() ahead {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failures []string
	for _, image := range p.wanted {
		if message := p.pulls[image].Problem.Message; message != "" {
			failures = append(failures, "pull image "+image+": "+message)
		}
	}
	if more := len(failures) - failuresShown; more > 0 {
		failures = append(failures[:failuresShown], fmt.Sprintf("and %d more", more))
	}
	return ahead{Pulled: slices.Clone(p.pulled), Failures: strings.Join(failures, "; ")}
}
