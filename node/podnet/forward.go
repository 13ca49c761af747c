package podnet

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"
)

const (
	dockerChain = "DOCKER-USER"
	// iptablesTimeout bounds the wait for whoever holds the lock of iptables.
	iptablesTimeout = 5 * time.Second
)

// serviceMark is the bit of a connection's mark that says that it was translated for a Service. It is part of the agreement with
// node/proxy: see DESIGN.md.
const serviceMark = "0x4000/0x4000"

// forwardRules say what is let through: what Pods of this node send and get, and connections to a Service that come in from one
// host and go out to a Pod of another.
func forwardRules(names names) [][]string {
	return [][]string{{"-i", names.ports + "+"}, {"-o", names.ports + "+"}, {"-m", "connmark", "--mark", serviceMark}}
}

// labelled makes a rule recognisable as the cluster's.
func labelled(rule []string, names names) []string {
	return append(slices.Clone(rule), "-m", "comment", "--comment", label(names), "-j", "ACCEPT")
}

func label(names names) string { return "mainstay " + names.gateway }

// allowForwarding sees to it that traffic of the cluster is let through where Docker set FORWARD to DROP. Without that chain
// there is nothing of Docker's in the way, and nothing is done. See DESIGN.md.
func allowForwarding(ctx context.Context, names names) error {
	rules, present, err := listDockerChain(ctx)
	if err != nil || !present {
		return err
	}
	for _, rule := range forwardRules(names) {
		if containsRule(rules, rule, label(names)) {
			continue
		}
		if _, err := iptables(ctx, append([]string{"-I", dockerChain}, labelled(rule, names)...)...); err != nil {
			return fmt.Errorf("let traffic of %s be forwarded: %w", names.gateway, err)
		}
	}
	return nil
}

// forbidForwarding removes what allowForwarding added.
func forbidForwarding(ctx context.Context, names names) error {
	rules, present, err := listDockerChain(ctx)
	if err != nil || !present {
		return err
	}
	for _, rule := range forwardRules(names) {
		if !containsRule(rules, rule, label(names)) {
			continue
		}
		if _, err := iptables(ctx, append([]string{"-D", dockerChain}, labelled(rule, names)...)...); err != nil {
			return fmt.Errorf("remove the rule of %s in %s: %w", names.gateway, dockerChain, err)
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

func containsRule(rules string, rule []string, label string) bool {
	want := " " + strings.Join(rule, " ") + " "
	for line := range strings.Lines(rules) {
		if strings.Contains(line, want) && strings.Contains(line, label) {
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
