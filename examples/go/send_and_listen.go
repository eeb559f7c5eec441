// Publishes a command to the broker, and consumes the events about it from a queue of its own.
//
//	go run . --text Hello 41793026727 385911234567
//
// Exit status 0 if each destination was accepted and delivered within --timeout, else 1; 130 after Ctrl-C or SIGTERM.
// The broker is SMSBRIDGE_AMQP__URL, the prefix of the bridge's names SMSBRIDGE_AMQP__PREFIX.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const prefetch = 100

// What is read of an event. Later versions of the bridge may add fields.
type event struct {
	ID, Type, Application, Time string
	Result                      *struct {
		To, MessageID string
		Status        struct{ Name string }
		Refusal       struct{ Reason string }
	}
	Report *struct {
		To, MessageID string
		Status        struct{ Name string }
	}
	InvalidCommand *struct{ Reason, Detail string }
}

func (e event) String() string {
	switch {
	case e.Result != nil:
		return e.line(e.Result.To, e.Result.MessageID, cmp.Or(e.Result.Refusal.Reason, e.Result.Status.Name))
	case e.Report != nil:
		return e.line(e.Report.To, e.Report.MessageID, e.Report.Status.Name)
	case e.InvalidCommand != nil:
		return e.line(e.InvalidCommand.Reason + ": " + e.InvalidCommand.Detail)
	}
	return e.line()
}

func (e event) line(columns ...string) string {
	return strings.Join(append([]string{e.Time, e.Type, e.Application}, columns...), "  ")
}

type command struct {
	requestID, application, prefix, text string
	to                                   []string
}

func main() {
	var c command
	flag.StringVar(&c.text, "text", "", "the text")
	flag.StringVar(&c.application, "application", "default", "who sends (property app_id)")
	// With the same id a command can be repeated: nothing is sent twice.
	flag.StringVar(&c.requestID, "request-id", newID(), "the request id")
	seconds := flag.Float64("timeout", 30, "seconds for everything")
	flag.Parse()
	if c.to = flag.Args(); len(c.to) == 0 {
		fmt.Fprintln(os.Stderr, "give --text and numbers, such as 41793026727")
		os.Exit(2)
	}
	c.prefix = cmp.Or(os.Getenv("SMSBRIDGE_AMQP__PREFIX"), "smsbridge")
	url := cmp.Or(os.Getenv("SMSBRIDGE_AMQP__URL"), "amqp://guest:guest@127.0.0.1:5672/%2f")

	stopped, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(stopped, time.Duration(*seconds*float64(time.Second)))
	defer cancel()
	err := sendAndListen(ctx, url, c)
	switch {
	case stopped.Err() != nil:
		os.Exit(130)
	case err != nil && ctx.Err() != nil:
		fmt.Fprintf(os.Stderr, "not finished within %v s: %v\n", *seconds, err)
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func sendAndListen(ctx context.Context, url string, c command) error {
	if _, err := amqp.ParseURI(url); err != nil { // its text would show the URL, which has the password
		return errors.New("SMSBRIDGE_AMQP__URL is not of the form amqp://USER:PASSWORD@HOST:PORT/VHOST")
	}
	connection, err := amqp.DialConfig(url, amqp.Config{Dial: amqp.DefaultDial(10 * time.Second), Heartbeat: 10 * time.Second})
	if err != nil {
		return fmt.Errorf("no connection to the broker: %w", err)
	}
	// The calls below have no deadline of their own: closing the connection ends each of them.
	closing := func() { _ = connection.CloseDeadline(time.Now().Add(5 * time.Second)) }
	defer closing()
	defer context.AfterFunc(ctx, closing)()

	channel, err := connection.Channel()
	if err != nil {
		return err
	}
	deliveries, err := listen(ctx, channel, c)
	if err != nil {
		return err
	}
	if err := publish(ctx, channel, c); err != nil {
		return err
	}
	fmt.Println("published", c.requestID)
	return await(ctx, deliveries, c)
}

// Binds a queue before the command is published, so that no event is missed. The routing key is {type}.{application}.
func listen(ctx context.Context, channel *amqp.Channel, c command) (<-chan amqp.Delivery, error) {
	queue, err := channel.QueueDeclare("", false, true, true, false, nil) // exclusive: it ends with the connection
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{"send.*", "report.*", "command.invalid"} {
		if err := channel.QueueBind(queue.Name, kind+"."+c.application, c.prefix+".events", false, nil); err != nil {
			return nil, err
		}
	}
	if err := channel.Qos(prefetch, 0, false); err != nil {
		return nil, err
	}
	return channel.ConsumeWithContext(ctx, queue.Name, "", false, true, false, false, nil)
}

// Publishes the command, and waits for the confirm: the broker has stored it.
func publish(ctx context.Context, channel *amqp.Channel, c command) error {
	if err := channel.Confirm(false); err != nil {
		return err
	}
	returns := channel.NotifyReturn(make(chan amqp.Return, 1))
	closed := channel.NotifyClose(make(chan *amqp.Error, 1))
	body, err := json.Marshal(map[string]any{"message": map[string]any{"text": c.text, "destinations": destinations(c.to)}})
	if err != nil {
		return err
	}
	message := amqp.Publishing{
		MessageId:    c.requestID,
		AppId:        c.application,
		Type:         "smsbridge.v1.SendSmsRequest",
		ContentType:  "application/json",
		DeliveryMode: amqp.Persistent,
		Body:         body,
	}
	mandatory, exchange := true, c.prefix+".commands"
	stored := false
	confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, exchange, "sms.send", mandatory, false, message)
	if err == nil {
		stored, err = confirmation.WaitContext(ctx)
	}
	// A channel that closes answers every wait with false, as a broker that refuses.
	if err == nil && !stored && channel.IsClosed() {
		err = reason(ctx, closed)
	}
	if err != nil {
		return fmt.Errorf("no confirm: publish again with --request-id %s: %w", c.requestID, err)
	}
	select {
	case _, returned := <-returns: // comes before the confirm; a channel that closes closes it
		if returned {
			return errors.New("the broker returned the command: no queue is bound; start a bridge, it declares them")
		}
	default:
	}
	if !stored {
		return errors.New("the broker refused the command: a queue is full")
	}
	return nil
}

// Why the channel was closed.
func reason(ctx context.Context, closed <-chan *amqp.Error) error {
	select {
	case err := <-closed:
		if err != nil {
			return err
		}
	default:
	}
	return cmp.Or(ctx.Err(), error(amqp.ErrClosed)) // closed by this program
}

func destinations(numbers []string) (result []map[string]string) {
	for _, number := range numbers {
		result = append(result, map[string]string{"to": number})
	}
	return result
}

// Waits until each destination has been delivered.
func await(ctx context.Context, deliveries <-chan amqp.Delivery, c command) error {
	seen, mine, delivered := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var reports []event
	for len(delivered) < len(c.to) {
		var delivery amqp.Delivery
		var open bool
		select {
		case delivery, open = <-deliveries:
		case <-ctx.Done():
		}
		if !open {
			state := fmt.Sprintf("%d accepted and %d delivered of %d", len(mine), len(delivered), len(c.to))
			return errors.Join(errors.New(state+", then no more events"), ctx.Err())
		}
		var e event
		if err := json.Unmarshal(delivery.Body, &e); err != nil {
			return fmt.Errorf("not an event: %w", err) // not acknowledged: a durable queue would deliver it again
		}
		// An event may come twice, with the same id. A real consumer keeps the ids with what it stored.
		if !seen[e.ID] {
			seen[e.ID] = true
			if e.Report != nil {
				reports = append(reports, e)
			} else if delivery.CorrelationId == c.requestID {
				fmt.Println(e)
				if e.Type != "send.accepted" {
					return errors.New("the command was not accepted")
				}
				mine[e.Result.MessageID] = true
			}
			// A report may come before the result of its message. The queue also has the reports of other messages.
			var others []event
			for _, report := range reports {
				id := report.Report.MessageID
				if !mine[id] {
					others = append(others, report)
					continue
				}
				fmt.Println(report)
				if report.Type == "report.delivered" {
					delivered[id] = true
				}
			}
			reports = others
		}
		if err := delivery.Ack(false); err != nil {
			return err
		}
	}
	return nil
}

func newID() string {
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		panic(err) // the system has no random numbers
	}
	return fmt.Sprintf("%x", random)
}
