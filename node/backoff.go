package node

import "time"

const (
	// firstBackoff doubles up to maxBackoff; both are Kubernetes' numbers, for restarts and for pulls.
	firstBackoff = 10 * time.Second
	maxBackoff   = 5 * time.Minute
	// forgiveAfter is how long a container must have run for its crashes to be forgotten.
	forgiveAfter = 10 * time.Minute
	// firstRetry doubles up to maxRetry where an engine or a server is asked again: they mend sooner than applications do.
	firstRetry = 500 * time.Millisecond
	maxRetry   = 10 * time.Second
)

// backoff is how long a container's next restart waits after its end. The zero value restarts at once.
type backoff struct {
	Delay time.Duration
}

// after tells the back-off that an attempt which ran for this long is being restarted.
func (b backoff) after(ran time.Duration) backoff {
	if ran >= forgiveAfter {
		b.Delay = 0
	}
	return backoff{Delay: double(b.Delay, firstBackoff, maxBackoff)}
}

// wait is how long after its end an attempt that ran for this long is restarted.
func (b backoff) wait(ran time.Duration) time.Duration {
	if ran >= forgiveAfter {
		return 0
	}
	return b.Delay
}

// recall estimates the back-off an earlier agent had reached from the gap it left between two attempts.
func recall(previous, latest *attempt) backoff {
	if latest == nil || latest.Attempt == 0 {
		return backoff{}
	}
	if previous == nil || latest.Started.IsZero() || previous.Finished.IsZero() {
		return backoff{Delay: firstBackoff}
	}
	b := backoff{Delay: firstBackoff}
	for gap := latest.Started.Sub(previous.Finished); gap >= b.Delay && b.Delay < maxBackoff; {
		b.Delay = double(b.Delay, firstBackoff, maxBackoff)
	}
	return b
}

// double is the next delay after d: first after none, most at most.
func double(d, first, most time.Duration) time.Duration {
	return min(max(first, 2*d), most)
}
