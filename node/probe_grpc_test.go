package node

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	grpchealth "google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func probeGRPC(t *testing.T, addr, service string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	h := corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(portOf(t, addr)), Service: ptr.To(service)}}
	return check(ctx, nil, h, local(&corev1.Container{}))
}

// grpcServer serves by gRPC's own code.
func grpcServer(t *testing.T, register func(*grpc.Server)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := grpc.NewServer()
	register(srv)
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(srv.Stop)
	return l.Addr().String()
}

func TestGRPCProbe(t *testing.T) {
	states := grpchealth.NewServer()
	states.SetServingStatus("good", healthpb.HealthCheckResponse_SERVING)
	states.SetServingStatus("bad", healthpb.HealthCheckResponse_NOT_SERVING)
	states.SetServingStatus("undecided", healthpb.HealthCheckResponse_UNKNOWN)
	addr := grpcServer(t, func(srv *grpc.Server) { healthpb.RegisterHealthServer(srv, states) })
	for service, want := range map[string]string{
		"": "", "good": "", "bad": `responded with "NOT_SERVING"`, "undecided": `responded with "UNKNOWN"`, "none": "gRPC status 5: unknown service",
	} {
		err := probeGRPC(t, addr, service)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("service %q: err = %v, want %q", service, err, want)
		}
	}
}

func TestGRPCProbeOfAServerWithoutHealth(t *testing.T) {
	addr := grpcServer(t, func(*grpc.Server) {})
	if err := probeGRPC(t, addr, ""); err == nil || !strings.Contains(err.Error(), "does not implement gRPC's health protocol") {
		t.Errorf("err = %v", err)
	}
}

func TestGRPCProbeOfSomethingElse(t *testing.T) {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	for name, answer := range map[string]http.HandlerFunc{
		"answered HTTP 404":     http.NotFound,
		"without a gRPC status": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) },
		"no gRPC message": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Grpc-Status", "0")
			_, _ = w.Write([]byte("hello, world"))
		},
		"no protobuf": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Grpc-Status", "0")
			_, _ = w.Write([]byte{0, 0, 0, 0, 1, 0xff})
		},
		"state 77": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Grpc-Status", "0")
			_, _ = w.Write([]byte{0, 0, 0, 0, 4, 2 << 3, 1, 1 << 3, 77})
		},
	} {
		srv := httptest.NewUnstartedServer(answer)
		srv.Config.Protocols = &protocols
		srv.Start()
		err := probeGRPC(t, srv.Listener.Addr().String(), "")
		srv.Close()
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: err = %v", name, err)
		}
	}
}

// Nobody answers: the probe ends with its time, not later.
func TestGRPCProbeOfASilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	h := corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: int32(portOf(t, l.Addr().String()))}}
	if err := check(ctx, nil, h, local(&corev1.Container{})); err == nil || ctx.Err() == nil {
		t.Errorf("err = %v after %v", err, ctx.Err())
	}
}
