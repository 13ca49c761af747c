package node

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// The health protocol of gRPC is one call with one small message each way, over HTTP/2 without TLS. It is spoken here by
// hand because gRPC's own client makes the whole program half as large again: it links templates, and what a template could
// call the linker must keep.
const (
	grpcCheck         = "/grpc.health.v1.Health/Check"
	grpcHeader        = 5       // bytes before a message: whether it is compressed, and its length
	maxGRPCAnswer     = 4 << 10 // bytes; a health answer is 7
	grpcUnimplemented = "12"
)

// grpcStates are the values of HealthCheckResponse.ServingStatus.
var grpcStates = []string{"UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"}

const grpcServing = 1

func checkGRPC(ctx context.Context, a *corev1.GRPCAction, t target) error {
	addr, service := net.JoinHostPort(t.IP, strconv.Itoa(int(a.Port))), ptr.Deref(a.Service, "")
	state, err := askHealth(ctx, addr, service)
	switch {
	case err != nil:
		return fmt.Errorf("health of service %q at %s: %w", service, addr, err)
	case state >= uint64(len(grpcStates)):
		return fmt.Errorf("service unhealthy (responded with state %d)", state)
	case state != grpcServing:
		return fmt.Errorf("service unhealthy (responded with %q)", grpcStates[state])
	}
	return nil
}

// askHealth returns the state that a server says a service of its is in; "" is the server as a whole.
func askHealth(ctx context.Context, addr, service string) (uint64, error) {
	where := url.URL{Scheme: "http", Host: addr, Path: grpcCheck}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, where.String(), bytes.NewReader(grpcMessage(service)))
	if err != nil {
		return 0, err
	}
	req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}, "User-Agent": {userAgent}}
	transport := &http.Transport{Protocols: new(http.Protocols), DisableKeepAlives: true}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxGRPCAnswer))
	if err != nil {
		return 0, err
	}
	if err := grpcError(resp); err != nil {
		return 0, err
	}
	return grpcState(body)
}

// grpcMessage is a HealthCheckRequest as it travels.
func grpcMessage(service string) []byte {
	var message []byte
	if service != "" {
		message = protowire.AppendTag(message, 1, protowire.BytesType)
		message = protowire.AppendString(message, service)
	}
	framed := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	return append(framed, message...)
}

// grpcError is what an answer says went wrong; its body must have been read. A call without an answer has its status among
// the headers, any other behind the body.
func grpcError(resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered HTTP %s, as no gRPC server does", resp.Status)
	}
	code := cmp.Or(resp.Trailer.Get("Grpc-Status"), resp.Header.Get("Grpc-Status"))
	message := cmp.Or(resp.Trailer.Get("Grpc-Message"), resp.Header.Get("Grpc-Message"))
	switch code {
	case "0":
		return nil
	case "":
		return errors.New("the answer ends without a gRPC status")
	case grpcUnimplemented:
		return errors.New("the server does not implement gRPC's health protocol (grpc.health.v1.Health)")
	}
	if plain, err := url.PathUnescape(message); err == nil {
		message = plain
	}
	return fmt.Errorf("gRPC status %s: %s", code, message)
}

// grpcState reads a HealthCheckResponse.
func grpcState(body []byte) (uint64, error) {
	if len(body) < grpcHeader || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-grpcHeader {
		return 0, fmt.Errorf("the answer of %d bytes is no gRPC message", len(body))
	}
	var state uint64 // absent is zero, as always in protobuf
	for rest := body[grpcHeader:]; len(rest) > 0; {
		field, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return 0, fmt.Errorf("the answer is no protobuf: %w", protowire.ParseError(n))
		}
		rest = rest[n:]
		if field == 1 && kind == protowire.VarintType {
			state, n = protowire.ConsumeVarint(rest)
		} else {
			n = protowire.ConsumeFieldValue(field, kind, rest)
		}
		if n < 0 {
			return 0, fmt.Errorf("the answer is no protobuf: %w", protowire.ParseError(n))
		}
		rest = rest[n:]
	}
	return state, nil
}
