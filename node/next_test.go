package node

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mainstay-cluster/mainstay/node/runtime"
)

// t0 is when the tables' sandbox was made; the tables' now is ten minutes later.
var t0 = time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)

func seen(change ...func(o *observed)) *observed {
	o := newObserved()
	o.Now, o.Start = t0.Add(10*time.Minute), t0
	for _, fn := range change {
		fn(o)
	}
	return o
}

func sandboxed(o *observed) { o.Sandbox = runtime.Sandbox{ID: "s", Running: true, Created: t0} }

func pulled(n int) func(o *observed) {
	return func(o *observed) { o.track("app").Image = image{Ref: image1, ID: "i", Attempt: n} }
}

// made adds an attempt of container app, changed as given; without change it runs.
func made(n int, change ...func(a *attempt)) func(o *observed) {
	return func(o *observed) {
		a := attempt{Container: runtime.Container{
			ID: "id" + string(rune('0'+n)), Name: "app", Attempt: n, State: runtime.Running, Created: t0.Add(time.Minute), Started: t0.Add(time.Minute),
		}}
		for _, fn := range change {
			fn(&a)
		}
		o.Attempts["app"] = append(o.Attempts["app"], a)
	}
}

// exited ends an attempt some seconds before now.
func exited(code int, ago time.Duration) func(a *attempt) {
	return func(a *attempt) { a.State, a.ExitCode, a.Finished = runtime.Exited, code, t0.Add(10*time.Minute-ago) }
}

func deleted(p *corev1.Pod) {
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &metav1.Time{Time: t0}, ptr.To(int64(7))
}

func TestNext(t *testing.T) {
	for name, tc := range map[string]struct {
		pod  *corev1.Pod
		gone bool
		seen *observed
		want action
	}{
		"nothing there: the image first": {aPod("p"), false, seen(), action{Verb: pullImage, Container: "app"}},
		"image there: the sandbox":       {aPod("p"), false, seen(pulled(0)), action{Verb: makeSandbox}},
		"sandbox there: the container":   {aPod("p"), false, seen(pulled(0), sandboxed), action{Verb: startOne, Container: "app"}},
		"all there":                      {aPod("p"), false, seen(sandboxed, made(0)), action{Verb: idle}},
		"image of another attempt":       {aPod("p"), false, seen(pulled(0), sandboxed, made(0, exited(1, time.Minute))), action{Verb: pullImage, Container: "app", Attempt: 1}},
		"crashed once: at once":          {aPod("p"), false, seen(pulled(1), sandboxed, made(0, exited(1, 0))), action{Verb: startOne, Container: "app", Attempt: 1}},
		"crashed again: after back-off": {aPod("p"), false, seen(pulled(2), sandboxed, made(1, exited(1, 3*time.Second)), func(o *observed) { o.track("app").Backoff.Delay = 10 * time.Second }),
			action{Verb: idle, Again: t0.Add(10*time.Minute + 7*time.Second)}},
		"created, never started": {aPod("p"), false, seen(pulled(4), sandboxed, made(4, func(a *attempt) { a.State = runtime.Created })), action{Verb: startOne, Container: "app", Attempt: 4}},
		"paused":                 {aPod("p"), false, seen(sandboxed, made(0, func(a *attempt) { a.State = runtime.Paused })), action{Verb: unpause, Container: "app", ID: "id0"}},
		"superseded still runs":  {aPod("p"), false, seen(sandboxed, made(0), made(1)), action{Verb: killOne, Container: "app", ID: "id0", Grace: defaultGrace, Message: "Stopping superseded attempt of container app"}},
		"outdated": {aPod("p"), false, seen(sandboxed, made(0, func(a *attempt) { a.SpecHash = "old" })),
			action{Verb: killOne, Container: "app", ID: "id0", Grace: defaultGrace, Message: "Container app definition changed, will be restarted"}},
		"sick": {aPod("p"), false, seen(sandboxed, made(0), func(o *observed) {
			o.track("app").Health = health{ID: "id0", Sick: &sickness{Message: "m", Grace: ptr.To(int64(3))}}
		}), action{Verb: killOne, Container: "app", ID: "id0", Grace: 3 * time.Second, Message: "m"}},
		"sick was another attempt":        {aPod("p"), false, seen(sandboxed, made(1), func(o *observed) { o.track("app").Health = health{ID: "id0", Sick: &sickness{}} }), action{Verb: idle}},
		"hook is due":                     {aPod("p"), false, seen(sandboxed, made(0), func(o *observed) { o.track("app").Hook = 1 }), action{Verb: runHook, Container: "app", ID: "id0"}},
		"third attempt":                   {aPod("p"), false, seen(sandboxed, made(0, exited(1, time.Minute)), made(1, exited(1, time.Minute)), made(2)), action{Verb: prune, Container: "app", ID: "id0"}},
		"lost attempts need no removal":   {aPod("p"), false, seen(sandboxed, made(0, exited(1, time.Minute), func(a *attempt) { a.Lost = true }), made(1, exited(1, time.Minute)), made(2)), action{Verb: idle}},
		"sandbox died under a container":  {aPod("p"), false, seen(pulled(1), made(0)), action{Verb: makeSandbox}},
		"sandbox died, never restarted":   {aPod("p", policy(corev1.RestartPolicyNever)), false, seen(pulled(1), made(0)), action{Verb: idle}},
		"container of the sandbox before": {aPod("p"), false, seen(pulled(1), sandboxed, made(0, exited(137, 0), func(a *attempt) { a.Created = t0.Add(-time.Hour) })), action{Verb: startOne, Container: "app", Attempt: 1}},
		"count goes on where the server left it": {aPod("p"), false, seen(func(o *observed) {
			o.Last.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", RestartCount: 4, ContainerID: "docker://x"}}
		}), action{Verb: pullImage, Container: "app", Attempt: 5}},
		"never, ended":            {aPod("p", policy(corev1.RestartPolicyNever)), false, seen(sandboxed, made(0, exited(1, 0))), action{Verb: idle}},
		"over for the server":     {aPod("p"), false, seen(sandboxed, made(0), func(o *observed) { o.Last.Phase = corev1.PodFailed }), action{Verb: killAll, Grace: defaultGrace}},
		"deadline passed":         {aPod("p", deadlined(60)), false, seen(sandboxed, made(0)), action{Verb: killAll, Grace: defaultGrace}},
		"deadline to come":        {aPod("p", deadlined(900)), false, seen(sandboxed, made(0)), action{Verb: idle, Again: t0.Add(15 * time.Minute)}},
		"deleted, running":        {aPod("p", deleted), false, seen(sandboxed, made(0)), action{Verb: killAll, Grace: 7 * time.Second}},
		"deleted, stopped":        {aPod("p", deleted), false, seen(sandboxed, made(0, exited(0, 0))), action{Verb: removePod}},
		"deleted, never started":  {aPod("p", deleted), false, seen(), action{Verb: removePod}},
		"deleted, removed":        {aPod("p", deleted), false, seen(func(o *observed) { o.Removed = true }), action{Verb: finish}},
		"gone":                    {aPod("p"), true, seen(sandboxed, made(0)), action{Verb: killAll, Grace: defaultGrace}},
		"pull failed just now":    {aPod("p"), false, seen(failedPull(0)), action{Verb: idle, Again: t0.Add(10*time.Minute + pullShownAs)}},
		"pull failed a while ago": {aPod("p"), false, seen(failedPull(5 * time.Second)), action{Verb: idle, Again: t0.Add(10*time.Minute + 5*time.Second)}},
		"pull may be tried again": {aPod("p"), false, seen(failedPull(10 * time.Second)), action{Verb: pullImage, Container: "app"}},
		"other image is missing":  {aPod("p", with("other")), false, seen(failedPull(0)), action{Verb: pullImage, Container: "other"}},
		"other image is there":    {aPod("p", with("other")), false, seen(failedPull(0), pulledOther), action{Verb: makeSandbox}},
		"other can be started":    {aPod("p", with("other")), false, seen(failedPull(0), pulledOther, sandboxed), action{Verb: startOne, Container: "other"}},
		"init needs its image only": {aPod("p", func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: "other", Image: image2}}
		}), false, seen(failedPull(0), pulledOther), action{Verb: makeSandbox}},
		"sandbox failed": {aPod("p"), false, seen(pulled(0), func(o *observed) { o.SandboxHold.Until = o.Now.Add(time.Second) }), action{Verb: idle, Again: t0.Add(10*time.Minute + time.Second)}},
	} {
		t.Run(name, func(t *testing.T) {
			got := next(desired{Pod: tc.pod, Gone: tc.gone}, tc.seen)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("action (-want +got):\n%s", diff)
			}
		})
	}
}

// with adds a container of another image.
func with(name string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, Image: image2})
	}
}

func pulledOther(o *observed) { o.track("other").Image = image{Ref: image2, ID: "j"} }

func deadlined(seconds int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = &seconds }
}

// failedPull is a pull that failed some time ago and is tried 10s later.
func failedPull(ago time.Duration) func(o *observed) {
	return func(o *observed) {
		since := o.Now.Add(-ago)
		o.track("app").Hold = problem{Reason: reasonErrImagePull, Message: "no such host", Since: since, Until: since.Add(10 * time.Second)}
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{}
	var waits []time.Duration
	for range 8 {
		waits = append(waits, b.wait(0)/time.Second)
		b = b.after(0)
	}
	if diff := cmp.Diff([]time.Duration{0, 10, 20, 40, 80, 160, 300, 300}, waits); diff != "" {
		t.Errorf("waits in seconds (-want +got):\n%s", diff)
	}
	if got := b.wait(forgiveAfter); got != 0 {
		t.Errorf("after a long run it waits %s, want 0", got)
	}
	if got := b.after(forgiveAfter); got.Delay != firstBackoff {
		t.Errorf("the crash after that waits %s, want %s", got.Delay, firstBackoff)
	}
}

func TestRecallReadsTheBackoffOffTheAttempts(t *testing.T) {
	for name, tc := range map[string]struct {
		gap, want time.Duration
	}{
		"at once": {0, 10 * time.Second}, "10s": {11 * time.Second, 20 * time.Second}, "160s": {161 * time.Second, 300 * time.Second}, "an hour": {time.Hour, 300 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			previous := &attempt{Container: runtime.Container{Finished: t0}}
			latest := &attempt{Container: runtime.Container{Attempt: 1, Started: t0.Add(tc.gap)}}
			if got := recall(previous, latest).Delay; got != tc.want {
				t.Errorf("back-off = %s, want %s", got, tc.want)
			}
		})
	}
	if got := recall(nil, &attempt{}).Delay; got != 0 {
		t.Errorf("back-off of a first attempt = %s, want 0", got)
	}
}

func TestMergeRemembersWhatVanished(t *testing.T) {
	o := seen(sandboxed, made(0, exited(3, time.Minute)), made(1))
	o.merge(runtime.Pod{})
	last, before := o.latest("app"), o.previous("app")
	if last.Attempt != 1 || !last.Unknown || last.ExitCode != exitLost || !last.Finished.Equal(o.Now) {
		t.Errorf("newest = %+v, want it ended now in an unknown way", last)
	}
	if before == nil || before.ExitCode != 3 || before.Unknown {
		t.Errorf("the one before = %+v, want it as it ended", before)
	}
	o.merge(runtime.Pod{Containers: []runtime.Container{{ID: "id2", Name: "app", Attempt: 2, State: runtime.Running}}})
	if n := len(o.Attempts["app"]); n != keptOfEach {
		t.Errorf("%d attempts remembered, want %d", n, keptOfEach)
	}
}
