// Asks the cases in turn: java Client.java ADDRESS TOKEN CASES ROUNDS. Prints what was lost.
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;

class Client {
    public static void main(String[] arguments) throws Exception {
        var client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        var lines = Files.readAllLines(Path.of(arguments[2]));
        int asked = 0, lost = 0;
        for (int round = 0; round < Integer.parseInt(arguments[3]); round++) {
            for (var line : lines) {
                var part = line.split(" ");
                if (part.length != 6 || line.startsWith("#")) continue;
                var request = HttpRequest.newBuilder(URI.create("http://" + arguments[0] + part[1]));
                if (part[2].equals("token")) request.header("Authorization", "Bearer " + arguments[1]);
                if (!part[3].equals("-")) request.header("Content-Type", part[3]);
                if (part[0].equals("POST")) {
                    int size = Integer.parseInt(part[4]);
                    var body = size == 0 ? "{\"user_id\":1001}" : " ".repeat(size);
                    request.POST(HttpRequest.BodyPublishers.ofString(body));
                }
                asked++;
                String status;
                try {
                    status = "" + client.send(request.build(), BodyHandlers.discarding()).statusCode();
                } catch (java.io.IOException error) {
                    status = error.toString();
                }
                if (!status.equals(part[5])) {
                    lost++;
                    System.out.println("java: " + part[0] + " " + part[1] + ": " + status + " instead of " + part[5]);
                }
            }
        }
        System.out.println("java: " + asked + " asked, " + lost + " lost");
        System.exit(lost > 0 ? 1 : 0);
    }
}
