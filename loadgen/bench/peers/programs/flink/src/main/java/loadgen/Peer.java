package loadgen;

import java.nio.file.Path;
import java.util.Map;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.runtime.minicluster.MiniCluster;
import org.apache.flink.runtime.minicluster.MiniClusterConfiguration;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.table.api.CompiledPlan;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;

/** Does one job in Flink SQL, streaming, on a cluster within this JVM. Argument: the job's JSON file. */
public final class Peer {
    private static final String EVENTS =
            """
            CREATE TABLE events (
                user_id STRING, page_id STRING, ad_id STRING, ad_type STRING, event_type STRING,
                event_time BIGINT, ip_address STRING,
                time_ms AS TO_TIMESTAMP_LTZ(event_time / 1000, 3),
                -- a second of disorder, and a millisecond for what the division cuts off
                WATERMARK FOR time_ms AS time_ms - INTERVAL '1.001' SECOND
            ) WITH ('connector' = 'filesystem', 'path' = '%s', 'format' = 'json')
            """;

    private static final String ANSWER =
            """
            CREATE TABLE answer (%s) WITH (
                'connector' = 'filesystem', 'path' = '%s', 'format' = 'csv', 'csv.disable-quote-character' = 'true')
            """;

    private static final String START_US =
            "CAST(TIMESTAMPDIFF(SECOND, TIMESTAMP '1970-01-01 00:00:00', window_start) AS BIGINT) * 1000000";

    private static final Work W1 =
            new Work(
                    "campaign_id STRING, window_start_us BIGINT, `views` BIGINT",
                    """
                    SELECT campaign_id, %s, COUNT(*)
                    FROM TABLE(TUMBLE(TABLE viewed, DESCRIPTOR(time_ms), INTERVAL '10' SECOND))
                    WHERE campaign_id IS NOT NULL
                    GROUP BY campaign_id, window_start, window_end
                    """);

    private static final Work W2 =
            new Work(
                    "user_id STRING, window_start_us BIGINT, events BIGINT, micros BIGINT",
                    """
                    SELECT user_id, %s, COUNT(*), SUM(MOD(event_time, 1000000))
                    FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(time_ms), INTERVAL '10' SECOND))
                    GROUP BY user_id, window_start, window_end
                    """);

    private static final Map<String, Work> WORKS = Map.of("W1-json", W1, "W2-json", W2);

    private record Work(String columns, String query) {}

    public static void main(String[] arguments) throws Exception {
        ObjectMapper json = new ObjectMapper();
        JsonNode job = json.readTree(Path.of(arguments[0]).toFile());
        Configuration settings = settings(job);
        try (MiniCluster cluster = cluster(settings, job.get("cores").asInt())) {
            settings.setString("rest.port", String.valueOf(cluster.getRestAddress().get().getPort()));
            TableEnvironment tables = session(settings);
            Work work = WORKS.get(job.get("work").asText());
            declare(tables, job, work);
            CompiledPlan insert = tables.compilePlanSql("INSERT INTO answer " + work.query.formatted(START_US));
            long startNs = System.nanoTime();
            insert.execute().await();
            double seconds = (System.nanoTime() - startNs) / 1e9;
            json.writeValue(Path.of(job.get("told").asText()).toFile(), Map.of("seconds_inner", seconds));
        }
    }

    private static Configuration settings(JsonNode job) {
        String parameters = "%s:'%s'".formatted(Campaign.FILE, job.get("campaigns").asText());
        return Configuration.fromMap(
                Map.ofEntries(
                        Map.entry("parallelism.default", job.get("cores").asText()),
                        Map.entry("pipeline.object-reuse", "true"),
                        Map.entry("execution.checkpointing.interval", "1 s"),
                        Map.entry("execution.checkpointing.dir", "file://" + job.get("scratch").asText()),
                        Map.entry("pipeline.global-job-parameters", parameters),
                        Map.entry("table.local-time-zone", "UTC"),
                        Map.entry("execution.target", "remote"),
                        Map.entry("rest.address", "localhost"),
                        Map.entry("rest.bind-address", "localhost"),
                        Map.entry("rest.bind-port", "0"),
                        Map.entry("jobmanager.bind-host", "localhost"),
                        Map.entry("taskmanager.bind-host", "localhost")));
    }

    private static MiniCluster cluster(Configuration settings, int slots) throws Exception {
        MiniCluster cluster =
                new MiniCluster(
                        new MiniClusterConfiguration.Builder()
                                .setConfiguration(settings)
                                .setNumSlotsPerTaskManager(slots)
                                .build());
        cluster.start();
        return cluster;
    }

    private static TableEnvironment session(Configuration settings) {
        return TableEnvironment.create(
                EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(settings).build());
    }

    private static void declare(TableEnvironment tables, JsonNode job, Work work) {
        tables.createTemporarySystemFunction("campaign", Campaign.class);
        tables.executeSql(EVENTS.formatted(job.get("ndjson").asText()));
        tables.executeSql(
                "CREATE VIEW viewed AS "
                        + "SELECT campaign(ad_id) AS campaign_id, time_ms FROM events WHERE event_type = 'view'");
        tables.executeSql(ANSWER.formatted(work.columns, job.get("answer").asText()));
    }
}
