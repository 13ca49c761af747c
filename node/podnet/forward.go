package podnet

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

const (
	dockerChain = "DOCKER-USER"
	// iptablesTimeout bounds the wait for whoever holds the lock of iptables.
	iptablesTimeout = 5 * time.Second
)

// forwardRules are the two rules of ours in Docker's chain for its users' rules.
func forwardRules(bridge string) [][]string {
	label := []string{"-m", "comment", "--comment", "mainstay " + bridge, "-j", "ACCEPT"}
	return [][]string{append([]string{"-i", bridge}, label...), append([]string{"-o", bridge}, label...)}
}

// allowForwarding sees to it that traffic of the bridge is let through where Docker set FORWARD to DROP. Without that chain
// there is nothing of Docker's in the way, and nothing is done. See DESIGN.md.
func allowForwarding(ctx context.Context, bridge string) error {
	rules, present, err := listDockerChain(ctx)
	if err != nil || !present {
		return err
	}
	for _, rule := range forwardRules(bridge) {
		if containsRule(rules, rule) {
			continue
		}
		if _, err := iptables(ctx, append([]string{"-I", dockerChain}, rule...)...); err != nil {
			return fmt.Errorf("let traffic of %s be forwarded: %w", bridge, err)
		}
	}
	return nil
}

// forbidForwarding removes what allowForwarding added.
func forbidForwarding(ctx context.Context, bridge string) error {
	rules, present, err := listDockerChain(ctx)
	if err != nil || !present {
		return err
	}
	for _, rule := range forwardRules(bridge) {
		if !containsRule(rules, rule) {
			continue
		}
		if _, err := iptables(ctx, append([]string{"-D", dockerChain}, rule...)...); err != nil {
			return fmt.Errorf("remove the rule of %s in %s: %w", bridge, dockerChain, err)
		}
	}
	return nil
}

// listDockerChain returns the rules of the chain as `iptables -S` prints them, and whether there is such a chain.
func listDockerChain(ctx context.Context) (rules string, present bool, err error) {
	if _, err := exec.LookPath("iptables"); err != nil {
		return "", false, nil // Docker needs it to set FORWARD to DROP
	}
	rules, err = iptables(ctx, "-S", dockerChain)
	if failed := new(exec.ExitError); errors.As(err, &failed) && failed.ExitCode() == 1 {
		return "", false, nil
	}
	return rules, err == nil, err
}

func containsRule(rules string, rule []string) bool {
	want := strings.Join(rule[:2], " ")
	for line := range strings.Lines(rules) {
		if strings.Contains(line, " "+want+" ") && strings.Contains(line, rule[5]) {
			return true
		}
	}
	return false
}

func iptables(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, iptablesTimeout+time.Second, errors.New("iptables does not answer"))
	defer cancel()
	cmd := exec.CommandContext(ctx, "iptables", append([]string{"-w", fmt.Sprint(int(iptablesTimeout.Seconds()))}, args...)...)
	out, err := cmd.Output()
	if failed := new(exec.ExitError); errors.As(err, &failed) {
		return "", fmt.Errorf("iptables %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(failed.Stderr)))
	}
	return string(out), err
}
