import com.google.gson.Gson;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import com.rabbitmq.client.Delivery;
import com.rabbitmq.client.ShutdownSignalException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Publishes a command to the broker, and consumes the events about it from a queue of its own.
 *
 * <pre>
 * mvn -q process-classes
 * java -cp 'target/classes:target/dependency/*' SendAndListen --text Hello 41793026727 385911234567
 * </pre>
 *
 * <p>Exit status 0 if each destination was accepted and delivered within --timeout, else 1; 130 after Ctrl-C, 143 after SIGTERM.
 * The broker is SMSBRIDGE_AMQP__URL, the prefix of the bridge's names SMSBRIDGE_AMQP__PREFIX.
 */
public final class SendAndListen {
    private static final int PREFETCH = 100;
    private static final int RPC_TIMEOUT_MS = 10_000;

    private final String prefix = environment("SMSBRIDGE_AMQP__PREFIX", "smsbridge");
    private final List<String> to = new ArrayList<>();
    private String text = "";
    private String application = "default";
    /** With the same id a command can be repeated: nothing is sent twice. */
    private String requestId = UUID.randomUUID().toString();
    private double timeout = 30;

    public static void main(String[] arguments) {
        int status = 1;
        try {
            SendAndListen program = new SendAndListen();
            program.read(arguments);
            program.run();
            status = 0;
        } catch (Exception error) {
            // The client often says why in the cause only.
            Throwable cause = error.getMessage() == null && error.getCause() != null ? error.getCause() : error;
            System.err.println(cause.getMessage() == null ? cause : cause.getMessage());
        }
        System.exit(status);
    }

    private void read(String[] arguments) {
        for (int i = 0; i < arguments.length; i++) {
            if (!arguments[i].startsWith("--")) {
                to.add(arguments[i]);
                continue;
            }
            if (i + 1 == arguments.length) throw new IllegalArgumentException(arguments[i] + " needs a value");
            String value = arguments[++i];
            switch (arguments[i - 1]) {
                case "--text" -> text = value;
                case "--application" -> application = value;
                case "--request-id" -> requestId = value;
                case "--timeout" -> timeout = Double.parseDouble(value);
                default -> throw new IllegalArgumentException("unknown option " + arguments[i - 1]);
            }
        }
        if (to.isEmpty()) throw new IllegalArgumentException("give --text and numbers, such as 41793026727");
    }

    private void run() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        try {
            factory.setUri(environment("SMSBRIDGE_AMQP__URL", "amqp://guest:guest@127.0.0.1:5672/%2f"));
        } catch (Exception error) { // its text would show the URL, which has the password
            throw new IllegalArgumentException("SMSBRIDGE_AMQP__URL is not of the form amqp://USER:PASSWORD@HOST:PORT/VHOST");
        }
        factory.setConnectionTimeout(RPC_TIMEOUT_MS);
        factory.setHandshakeTimeout(RPC_TIMEOUT_MS);
        factory.setChannelRpcTimeout(RPC_TIMEOUT_MS);
        factory.setRequestedHeartbeat(10);
        // A recovered connection would have lost the exclusive queue, with the events in it.
        factory.setAutomaticRecoveryEnabled(false);
        Connection connection = factory.newConnection();
        // Ctrl-C and SIGTERM: what is not acknowledged goes back to its queue.
        Runtime.getRuntime().addShutdownHook(new Thread(() -> connection.abort(5_000)));
        try {
            Channel channel = connection.createChannel();
            BlockingQueue<Optional<Delivery>> deliveries = listen(channel);
            publish(channel);
            System.out.println("published " + requestId);
            await(channel, deliveries);
        } finally {
            connection.abort(5_000);
        }
    }

    /** Binds a queue before the command is published, so that no event is missed. An empty element ends the deliveries. */
    private BlockingQueue<Optional<Delivery>> listen(Channel channel) throws Exception {
        String queue = channel.queueDeclare().getQueue(); // exclusive: it ends with the connection
        for (String type : List.of("send.*", "report.*", "command.invalid")) {
            channel.queueBind(queue, prefix + ".events", type + "." + application); // {type}.{application}
        }
        channel.basicQos(PREFETCH);
        BlockingQueue<Optional<Delivery>> deliveries = new LinkedBlockingQueue<>(); // bounded by the prefetch count
        channel.basicConsume(
                queue,
                false,
                (tag, delivery) -> deliveries.add(Optional.of(delivery)),
                tag -> deliveries.add(Optional.empty()), // the broker cancelled the consumer
                (tag, signal) -> deliveries.add(Optional.empty()));
        return deliveries;
    }

    /** Publishes the command, and waits for the confirm: the broker has stored it. */
    private void publish(Channel channel) throws Exception {
        AtomicBoolean returned = new AtomicBoolean();
        channel.addReturnListener(message -> returned.set(true)); // comes before the confirm
        channel.confirmSelect();
        List<Map<String, String>> destinations = to.stream().map(number -> Map.of("to", number)).toList();
        String body = new Gson().toJson(Map.of("message", Map.of("text", text, "destinations", destinations)));
        AMQP.BasicProperties properties = new AMQP.BasicProperties.Builder()
                .messageId(requestId)
                .appId(application)
                .type("smsbridge.v1.SendSmsRequest")
                .contentType("application/json")
                .deliveryMode(2)
                .build();
        boolean stored;
        try {
            channel.basicPublish(prefix + ".commands", "sms.send", true, properties, body.getBytes(StandardCharsets.UTF_8));
            stored = channel.waitForConfirms((long) (timeout * 1000));
        } catch (IOException | ShutdownSignalException | TimeoutException error) {
            String why = error instanceof TimeoutException ? timeout + " s are over" : String.valueOf(error.getMessage());
            throw new IOException("no confirm: publish again with --request-id " + requestId + ": " + why, error);
        }
        if (!stored) throw new IllegalStateException("the broker refused the command: a queue is full");
        if (returned.get()) {
            throw new IllegalStateException(
                    "the broker returned the command: no queue is bound; start a bridge, it declares them");
        }
    }

    /** Waits until each destination has been delivered. */
    private void await(Channel channel, BlockingQueue<Optional<Delivery>> deliveries) throws Exception {
        long deadline = System.nanoTime() + (long) (timeout * 1e9);
        Set<String> seen = new HashSet<>();
        Set<String> mine = new HashSet<>();
        Set<String> delivered = new HashSet<>();
        List<JsonObject> reports = new ArrayList<>();
        while (delivered.size() < to.size()) {
            Optional<Delivery> next = deliveries.poll(deadline - System.nanoTime(), TimeUnit.NANOSECONDS);
            if (next == null) {
                throw new TimeoutException(mine.size() + " accepted and " + delivered.size() + " delivered of " + to.size()
                        + " in " + timeout + " s");
            }
            Delivery delivery = next.orElseThrow(() -> new IllegalStateException("the broker ended the consumer"));
            JsonObject event =
                    JsonParser.parseString(new String(delivery.getBody(), StandardCharsets.UTF_8)).getAsJsonObject();
            // An event may come twice, with the same id. A real consumer keeps the ids with what it stored.
            if (seen.add(string(event, "id"))) {
                if (event.has("report")) {
                    reports.add(event);
                } else if (requestId.equals(delivery.getProperties().getCorrelationId())) {
                    System.out.println(show(event));
                    if (!"send.accepted".equals(string(event, "type"))) {
                        throw new IllegalStateException("the command was not accepted");
                    }
                    mine.add(string(event.getAsJsonObject("result"), "messageId"));
                }
                // A report may come before the result of its message. The queue also has the reports of other messages.
                reports.removeIf(report -> {
                    String messageId = string(report.getAsJsonObject("report"), "messageId");
                    if (!mine.contains(messageId)) return false;
                    System.out.println(show(report));
                    if ("report.delivered".equals(string(report, "type"))) delivered.add(messageId);
                    return true;
                });
            }
            channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
        }
    }

    private static String show(JsonObject event) {
        String line = String.join("  ", string(event, "time"), string(event, "type"), string(event, "application"));
        for (String payload : List.of("result", "report")) {
            if (event.has(payload)) {
                JsonObject fields = event.getAsJsonObject(payload);
                JsonObject why = fields.getAsJsonObject(fields.has("refusal") ? "refusal" : "status");
                String reason = why == null ? "" : string(why, fields.has("refusal") ? "reason" : "name");
                line += String.join("  ", "", string(fields, "to"), string(fields, "messageId"), reason);
            }
        }
        if (event.has("invalidCommand")) {
            JsonObject invalid = event.getAsJsonObject("invalidCommand");
            line += "  " + string(invalid, "reason") + ": " + string(invalid, "detail");
        }
        return line;
    }

    /** A field; "" if it is not set. */
    private static String string(JsonObject object, String field) {
        return object.has(field) ? object.get(field).getAsString() : "";
    }

    private static String environment(String name, String otherwise) {
        String value = System.getenv(name);
        return value == null || value.isEmpty() ? otherwise : value;
    }
}
