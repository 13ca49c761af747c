package testhost

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// inside marks the test process that Main started; it holds the network namespace that it was started from.
const inside = "MAINSTAY_TESTHOST_INSIDE"

// Main runs the package's tests in a fresh network namespace, where nothing but loopback exists. Call it from TestMain.
func Main(m *testing.M) {
	if os.Getenv(inside) != "" {
		if err := tryRun("ip", "link", "set", "lo", "up"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, "these tests need a network namespace of their own: run them as root")
		os.Exit(1)
	}
	os.Exit(reexec())
}

// reexec runs this program again, in a new network namespace, and returns its exit code.
func reexec() int {
	// The death signal comes when the thread that forked ends, so this goroutine keeps it.
	runtime.LockOSThread()
	outside, err := os.Readlink(ownNetNS)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inside+"="+outside)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return max(1, exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the tests in a network namespace:", err)
		return 1
	}
	return 0
}
